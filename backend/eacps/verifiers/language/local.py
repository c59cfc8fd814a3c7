"""A vision-language model on this machine, by transformers: its scores are expected values over the
tokens that an answer may be, so that every question is answered and hardly any two edits tie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from eacps.domain import EditTask
from eacps.errors import ScoringError, SettingsError, first_line
from eacps.images import TaskImages, fit_within
from eacps.rubrics.reading import Call, Question, Rubric
from eacps.verifiers.language import prompts
from eacps.verifiers.language.options import LocalOptions
from eacps.verifiers.protocol import Answers, Preference
from eacps.weights import existing_path, verify_manifest

if TYPE_CHECKING:
    import torch

FIRST: Final = {"1": 1.0, "2": 0.0}
_DTYPES: Final = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


class LocalJudge:
    """Asks one question at a time, in one forward pass each. It shares the device with the editor,
    and takes turns with it."""

    def __init__(self, model: Any, processor: Any, rubric: Rubric, options: LocalOptions) -> None:
        self.ranges = rubric.ranges
        self._model = model
        self._processor = processor
        self._rubric = rubric
        self._options = options
        for question in rubric.questions.values():
            self._ids(_allowed(question))

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
        return cls(model.eval().to(device), processor, rubric, options)

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
            values = {
                question.name: self._answer(call, question, task.instruction, pictures, preview)
                for call in self._rubric.calls
                for question in call.questions
            }
            rows.append(Answers(self._rubric.values(values)))
        return rows

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

    def _answer(
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
        return self._expected(parts, _allowed(question))

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
        given = self._processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device)
        with torch.inference_mode():
            found: torch.Tensor = self._model(**given, logits_to_keep=1).logits[0, -1]
        return found

    def _ids(self, allowed: Mapping[str, float]) -> list[int]:
        """The tokens of the allowed answers."""
        tokenizer = self._processor.tokenizer
        found = [tokenizer.encode(text, add_special_tokens=False) for text in allowed]
        if any(len(ids) != 1 for ids in found):
            raise SettingsError(
                f"The rubric {self._rubric.name} has scores of more than one token, which a local "
                "judge cannot give.",
                hint="Use a rubric whose scores end at 9, such as edit.",
            )
        return [ids[0] for ids in found]

    def _small(self, image: Image.Image) -> Image.Image:
        return fit_within(image.convert("RGB"), self._options.image_side)


def _allowed(question: Question) -> Mapping[str, float]:
    low, high = question.ends
    return {str(value): float(value) for value in range(low, high + 1)}
