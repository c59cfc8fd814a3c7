"""The tiny vision-language judge is trained on what it is later shown, and loads like others."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy
import pytest
import torch

from demo.language_judge.__main__ import Learner
from demo.language_judge.model import RUBRIC_TEXT, build_processor, save
from demo.language_judge.samples import Shard, asked, asked_about, description, patches
from demo.tensors import to_array, to_tensor
from eacps.demo.bears import SIZE, attributes
from eacps.demo.tasks import demo_tasks
from eacps.domain import EditTask
from eacps.images import TaskImages
from eacps.rubrics.reading import read_rubric
from eacps.settings import Settings
from eacps.verifiers.language.local import LocalJudge
from eacps.verifiers.registry import find_verifier

TASKS = demo_tasks(2, 3, SIZE)


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    path = tmp_path_factory.mktemp("rubric") / "rubric.toml"
    path.write_text(RUBRIC_TEXT)
    return Learner(read_rubric(str(path)))


def test_it_learns_from_the_pixels_and_words_that_the_processor_makes(learner: Learner) -> None:
    pictures = [task.source for task in TASKS]
    content = [
        {"type": "text", "text": "Source:"},
        {"type": "image", "image": pictures[0]},
        {"type": "text", "text": "Edit one:"},
        {"type": "image", "image": pictures[1]},
        {"type": "text", "text": '"add a red hat" satisfied?'},
    ]
    given = build_processor(learner.tokenizer).apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tensors = to_tensor(to_array(pictures))
    assert torch.allclose(given["pixel_values"], patches(tensors), atol=1e-5)
    prompt = asked(["Source:", "Edit one:"], '"add a red hat" satisfied?')
    assert learner.tokenizer(prompt)["input_ids"] == given["input_ids"][0].tolist()
    with torch.no_grad():
        theirs = learner.model.eval()(**given, logits_to_keep=1).logits[0, -1]
        ours = learner.logits([prompt], learner.seen(tensors)[None], [""])[0, 0]
    assert torch.allclose(theirs, ours, atol=1e-4)


def test_its_words_cover_what_it_reads_and_says(learner: Learner) -> None:
    for task in demo_tasks(40, 9, SIZE):
        texts = [asked_about(learner.rubric, name, task.instruction) for name in ("satisfied",)]
        texts.append(description(attributes(task.before)))
        for text in texts:
            ids = learner.tokenizer(text)["input_ids"]
            assert learner.tokenizer.unk_token_id not in ids, text


def test_a_step_teaches_it_what_it_was_told(learner: Learner, tmp_path: Path) -> None:
    sources = to_array([task.source for task in TASKS])
    right = numpy.stack([to_array([task.source] * 4) for task in TASKS])
    labels = numpy.ones((2, 4, 3), numpy.float32)
    shard = Shard(sources, right, labels, [task.instruction for task in TASKS])
    weights = list(learner.model.parameters())
    optimiser = torch.optim.AdamW(weights, 3e-3)
    losses = []
    for _ in range(8):
        loss = learner.judged(shard, [0, 1], Random(1))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert losses[-1] < losses[0]
    save(learner.model.eval(), learner.tokenizer, tmp_path / "judge")
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        verifier=f"local:{tmp_path / 'judge'}",
        rubric=str(tmp_path / "judge" / "rubric.toml"),
    )
    judge = find_verifier(settings.verifier, settings).load(settings, "cpu")
    assert isinstance(judge, LocalJudge)
    task = EditTask("a.png", TASKS[0].instruction)
    [found] = judge.judge(task, TaskImages(TASKS[0].source), [TASKS[0].source], [1.0])
    assert set(found.values) == {"satisfied", "preserved", "intact"}
    assert all(0.5 < value <= 1 for value in found.values.values())
