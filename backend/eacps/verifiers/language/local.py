"""A vision-language model on this machine, by transformers: its scores are expected values over the
tokens that an answer may be, so that hardly any two edits tie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import ScoringError, SettingsError, first_line
from eacps.images import TaskImages, fit_within
from eacps.rubrics.reading import Call, Question, Rubric
from eacps.verifiers.language import prompts
from eacps.verifiers.language.answers import Reply, combined, understood
from eacps.verifiers.language.lora import with_lora
from eacps.verifiers.language.options import LocalOptions
from eacps.verifiers.language.parsing import UnclearError
from eacps.verifiers.language.services.contract import Answer, Token
from eacps.verifiers.protocol import Answers, Preference
from eacps.weights import existing_path, verify_manifest

if TYPE_CHECKING:
    import torch

FIRST: Final = {"1": 1.0, "2": 0.0}
HIGHEST_DIGIT: Final = 9
LIKELY: Final = 20
"""So many tokens that could have been written instead are kept, as servers give them."""
_DTYPES: Final = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


class LocalJudge:
    """Asks one question at a time, in one forward pass each, if digits answer them all. Otherwise
    the model writes its answer to a whole call, as judges do that were trained with their own
    prompts. It shares the device with the editor, and takes turns with it."""

    def __init__(self, model: Any, processor: Any, rubric: Rubric, options: LocalOptions) -> None:
        self.ranges = rubric.ranges
        self._model = model
        self._processor = processor
        self._rubric = rubric
        self._options = options
        self._writes = not _in_digits(rubric)
        if not self._writes:
            for question in rubric.questions.values():
                self._ids(_digits(question))

    @classmethod
    def load(cls, folder: str, rubric: Rubric, options: LocalOptions, device: str) -> LocalJudge:
        """Load the model of a folder; runs no code from it, and fetches nothing."""
        path = existing_path(folder)
        if path is None or not path.is_dir():
            raise SettingsError(
                f"EACPS_VERIFIER names local:{folder}, which is no folder.",
                hint="Name a folder with a model of transformers (config.json, *.safetensors).",
            )
        verify_manifest(path)
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        automatic = "float32" if device == "cpu" else "bfloat16"
        dtype = automatic if options.dtype == "auto" else _DTYPES[options.dtype]
        known: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            processor = AutoProcessor.from_pretrained(path, **known)
            model = AutoModelForImageTextToText.from_pretrained(
                path, use_safetensors=True, dtype=getattr(torch, dtype), **known
            )
        except Exception as error:
            raise ScoringError(
                f"The judge in {path} cannot be loaded: {first_line(error)}.",
                hint="It must be an image-text-to-text model of transformers, in safetensors.",
            ) from None
        if options.lora:
            model = with_lora(model, options.lora)
        kind = ComparingLocalJudge if rubric.compares else cls
        return kind(model.eval().to(device), processor, rubric, options)

    def judge(
        self,
        task: EditTask,
        images: TaskImages,
        edited: Sequence[Image.Image],
        progress: Sequence[float],
    ) -> Sequence[Answers]:
        """The answers about each edit."""
        own = {"source": self._small(images.source)}
        if images.mask is not None:
            own["mask"] = self._small(images.mask.resize(images.source.size).convert("RGB"))
        if images.reference is not None:
            own["reference"] = self._small(images.reference)
        rows = []
        for image, share in zip(edited, progress, strict=True):
            fitting = prompts.at_the_size_of(images.source, image)
            pictures = {**own, "edited": self._small(fitting)}
            preview = self._rubric.preview if share < 1 else ""
            ask = self._written if self._writes else self._chosen
            rows.append(ask(task.instruction, pictures, preview))
        return rows

    def _written(
        self, instruction: str, pictures: Mapping[str, Image.Image], preview: str
    ) -> Answers:
        """The answers as the model writes them; what cannot be read is missing."""
        replies = []
        for call in self._rubric.calls:
            parts = prompts.parts_of(self._rubric, call, instruction, pictures, preview=preview)
            try:
                replies.append(Reply(understood(call, self._answer(parts))))
            except UnclearError as error:
                replies.append(Reply(problem=str(error)))
        return combined(self._rubric, replies)

    def _answer(self, parts: Sequence[Any]) -> Answer:
        """What the model writes, always its likeliest token; raises UnclearError without an end."""
        import torch

        most = self._options.max_tokens
        given = self._inputs(parts)
        with torch.inference_mode():
            found = self._model.generate(
                **given,
                max_new_tokens=most,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids = found.sequences[0, given["input_ids"].shape[1] :].tolist()
        special = set(self._processor.tokenizer.all_special_ids)
        length = next((place for place, one in enumerate(ids) if one in special), len(ids))
        if length == most:
            raise UnclearError(f"the answer was cut off after {most} tokens (max_tokens)")
        text = self._processor.tokenizer.decode(ids[:length])
        steps = zip(ids[:length], found.logits[:length], strict=True)
        return Answer(text, tokens=tuple(self._token(one, logits[0]) for one, logits in steps))

    def _token(self, chosen: int, logits: torch.Tensor) -> Token:
        """A token that was written, with those that were likely instead."""
        shares = logits.float().log_softmax(dim=0)
        likely = shares.topk(min(LIKELY, len(shares)))
        words = self._processor.tokenizer.batch_decode([[one] for one in likely.indices.tolist()])
        others: dict[str, float] = {}
        for word, share in zip(words, likely.values.tolist(), strict=True):
            others.setdefault(word, share)
        return Token(self._processor.tokenizer.decode([chosen]), float(shares[chosen]), others)

    def _chosen(
        self, instruction: str, pictures: Mapping[str, Image.Image], preview: str
    ) -> Answers:
        """The answers by the probabilities of the digits that may follow each question."""
        values = {
            question.name: self._value(call, question, instruction, pictures, preview)
            for call in self._rubric.calls
            for question in call.questions
        }
        return Answers(self._rubric.values(values))

    def _value(
        self,
        call: Call,
        question: Question,
        instruction: str,
        pictures: Mapping[str, Image.Image],
        preview: str,
    ) -> float:
        parts: list[Any] = []
        for name in call.pictures:
            if name in pictures:
                parts += [prompts.TITLES[name], pictures[name]]
        words = prompts.asking_in_one_token(self._rubric, call, question, instruction)
        parts.append(f"{words}\n\n{preview}" if preview else words)
        return self._expected(parts, _digits(question))

    def _expected(self, parts: Sequence[Any], allowed: Mapping[str, float]) -> float:
        """The mean of the allowed values by the probabilities of their tokens."""
        logits = self._logits(parts)[self._ids(allowed)].float()
        if not bool(logits.isfinite().all()):
            raise ScoringError("The local judge computed values that are no numbers.")
        shares = logits.softmax(dim=0).tolist()
        return float(
            sum(share * value for share, value in zip(shares, allowed.values(), strict=True))
        )

    def _logits(self, parts: Sequence[Any]) -> torch.Tensor:
        """What the model expects as the first token of its answer."""
        import torch

        with torch.inference_mode():
            given = self._inputs(parts)
            found: torch.Tensor = self._model(**given, logits_to_keep=1).logits[0, -1]
        return found

    def _inputs(self, parts: Sequence[Any]) -> Any:
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "image": part}
            for part in parts
        ]
        messages = [{"role": "user", "content": content}]
        if self._rubric.system:
            told = {"type": "text", "text": self._rubric.system}
            messages.insert(0, {"role": "system", "content": [told]})
        return self._processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device)

    def _ids(self, allowed: Mapping[str, float]) -> list[int]:
        """The tokens of the allowed answers."""
        tokenizer = self._processor.tokenizer
        found = [tokenizer.encode(text, add_special_tokens=False) for text in allowed]
        if any(len(ids) != 1 for ids in found):
            raise SettingsError(
                "The tokenizer of the local judge has no tokens for single digits.",
                hint="Name a model of another family in EACPS_VERIFIER.",
            )
        return [ids[0] for ids in found]

    def _small(self, image: Image.Image) -> Image.Image:
        return fit_within(image.convert("RGB"), self._options.image_side)


class ComparingLocalJudge(LocalJudge):
    """A judge that can also be asked which of two edits is better."""

    def compare(
        self, task: EditTask, images: TaskImages, first: Image.Image, second: Image.Image
    ) -> Preference:
        """Which of two edits is better, asked in both orders."""
        source = self._small(images.source)
        one, other = (
            self._small(prompts.at_the_size_of(images.source, image)) for image in (first, second)
        )
        words = prompts.comparing_in_one_token(self._rubric, task.instruction)
        shares = []
        for pair in ((one, other), (other, one)):
            parts = ["Source:", source, "Edit one:", pair[0], "Edit two:", pair[1], words]
            shares.append(self._expected(parts, FIRST))
        return Preference((shares[0] + 1 - shares[1]) / 2)


def _in_digits(rubric: Rubric) -> bool:
    """Whether one digit answers every question, and the model was not trained to write instead."""
    ends = [question.ends for question in rubric.questions.values()]
    written = any(call.layout == "score_list" for call in rubric.calls)
    return not written and all(low >= 0 and high <= HIGHEST_DIGIT for low, high in ends)


def _digits(question: Question) -> Mapping[str, float]:
    low, high = question.ends
    return {str(value): float(value) for value in range(low, high + 1)}
