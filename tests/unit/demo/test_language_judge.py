"""The tiny vision-language judge is trained on what it is later shown, and loads like others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from demo.language_judge.__main__ import Learner
from demo.language_judge.model import BEGINS, answer, build_processor, save
from demo.language_judge.samples import asked, patches, reasons, with_attributes
from demo.tensors import to_array, to_tensor
from eacps.demo.bears import SIZE, attributes
from eacps.demo.tasks import DemoTask, demo_tasks
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.rubrics.reading import read_rubric
from eacps.settings import Settings
from eacps.verifiers.language import prompts
from eacps.verifiers.language.local import LocalJudge
from eacps.verifiers.protocol import Comparing
from eacps.verifiers.registry import find_verifier

TASKS = demo_tasks(2, 3, SIZE)


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner()


def said(task: DemoTask, *, right: bool = True, rest: bool = True) -> str:
    """What it shall write about an edit that carries a task out, or does nothing."""
    return answer(*reasons(task.before, task.after if right else task.before, task.required, rest))


def test_it_learns_from_the_pixels_and_words_that_the_judge_is_shown(
    learner: Learner, tmp_path: Path
) -> None:
    save(learner.model.eval(), learner.tokenizer, tmp_path)
    rubric = read_rubric(str(tmp_path / "rubric.toml"))
    pictures = {"source": TASKS[0].source, "edited": TASKS[1].source}
    words = TASKS[0].instruction
    parts = prompts.parts_of(rubric, rubric.calls[0], words, pictures, preview="")
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
        for part in parts
    ]
    given = build_processor(learner.tokenizer).apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tensors = to_tensor(to_array(list(pictures.values())))
    assert torch.allclose(given["pixel_values"], patches(tensors), atol=1e-5)
    assert learner.tokenizer(asked(words))["input_ids"] == given["input_ids"][0].tolist()
    with torch.no_grad():
        theirs = learner.model(**given, logits_to_keep=1).logits[0, -1]
        ours = learner.logits([asked(words)], learner.seen(tensors)[None], ["{"])[0][0, 0]
    assert torch.allclose(theirs, ours, atol=1e-4)


def test_reasons_say_what_became_of_each_part_and_scores_follow() -> None:
    for task in demo_tasks(40, 9, SIZE):
        right, wrong = json.loads(said(task)), json.loads(said(task, right=False))
        assert right["score"] == [9, 9]
        assert wrong["score"] == [0, 9]
        assert "done" in right["reasoning"]
        assert "missing" in wrong["reasoning"]
        assert "changed" not in right["reasoning"] + wrong["reasoning"]
        assert json.loads(said(task, rest=False))["score"] == [9, 0]
        again = with_attributes(task.before, attributes(task.after))
        assert reasons(task.before, again, task.required, rest=True)[1:] == (9, 9)


def test_its_words_cover_what_it_reads_and_says_as_one_token_each(learner: Learner) -> None:
    for task in demo_tasks(40, 9, SIZE):
        for text in (asked(task.instruction), said(task), said(task, right=False, rest=False)):
            ids = learner.tokenizer(text)["input_ids"]
            assert learner.tokenizer.unk_token_id not in ids, text
        ids = learner.tokenizer(said(task))["input_ids"]
        assert learner.tokenizer.decode(ids) == said(task)


def test_it_writes_what_it_was_taught_and_the_judge_reads_it(
    learner: Learner, tmp_path: Path
) -> None:
    task, told = TASKS[0], said(TASKS[0], right=False)
    pictures = to_tensor(to_array([task.source, task.source]))
    with torch.no_grad():
        seen = learner.seen(pictures)[None]
    weights = list(learner.model.model.language_model.parameters())
    optimiser = torch.optim.AdamW(weights, 3e-3)
    for _ in range(200):
        losses = learner.loss([asked(task.instruction)], seen, [told])
        total = torch.stack(losses).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if total.item() < 0.03:
            break
    save(learner.model.eval(), learner.tokenizer, tmp_path / "judge")
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        verifier=f"local:{tmp_path / 'judge'}",
        rubric=str(tmp_path / "judge" / "rubric.toml"),
    )
    judge = find_verifier(settings.verifier, settings).load(settings, "cpu")
    assert isinstance(judge, LocalJudge)
    assert not isinstance(judge, Comparing)
    images = TaskImages(task.source)
    [found] = judge.judge(EditTask("a.png", task.instruction), images, [task.source], [1.0])
    assert told.removeprefix(BEGINS).split('"')[0] in found.why
    assert found.values["satisfied"] < 0.3
    assert found.values["preserved"] > 0.7
    assert found.values["verified"] < 0.3
