"""Pause, preview, prune, resume: what survives is the image of a render without a pause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eacps.domain import Noise, Trial
from eacps.editors import open_editor
from eacps.editors.diffusers.segments import Segment
from eacps.editors.diffusers.states import State, from_bytes, to_bytes
from eacps.errors import CancelledError, EditorError
from eacps.settings import Settings
from tests.tiny_pipelines import BUILDERS
from tests.unit.editors.editor_cases import (
    images,
    memory_for,
    segments,
    task,
    tiny_settings,
    trials,
)

STEPS = 6
FLOW = "qwen_edit_plus"
ANCESTRAL = "instruct_pix2pix"
EVERY = [*BUILDERS, "demo"]
ONE_OF_EACH_KIND = [FLOW, "flux2_klein", ANCESTRAL, "demo"]
pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")
slow_examples = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def paced(folders: Mapping[str, Path], demo: Any) -> dict[str, Any]:
    """Every family's editor with enough steps to pause between them, and the demo's."""
    found = {name: editor_of(folder) for name, folder in folders.items()}
    return {**found, "demo": demo}


def editor_of(folder: Path, **changes: Any) -> Any:
    return open_editor(tiny_settings(folder, **({"steps": STEPS} | changes)), "cpu")


def steps_of(editor: Any) -> int:
    return int(editor.settings.steps)


def passes_per_step(editor: Any) -> int:
    (render,) = editor.open(task(), images()).advance(trials(1))
    return int(render.nfe) // steps_of(editor)


def to(step: int | None, *asked: Trial) -> list[Trial]:
    """The trials, to be advanced to a step."""
    return [replace(trial, to_step=step) for trial in asked]


def carried(state: State) -> State:
    """A state after a journey as bytes."""
    return from_bytes(to_bytes(state, "somebody"), "somebody")


def pixels(render: Any) -> NDArray[np.int_]:
    assert render.failure is None, render.failure
    return np.asarray(render.image, dtype=int)


def same(one: Any, other: Any) -> bool:
    """One level of 255 is what rounding may do to a difference of 0.00001."""
    return bool(np.abs(pixels(one) - pixels(other)).max() <= 1)


@pytest.mark.parametrize("name", EVERY)
def test_survivors_of_a_pruned_batch_end_as_without_the_pause(name: str, paced: Any) -> None:
    session = paced[name].open(task(), images())
    whole = session.denoise(segments(1, 2, 3, 4)).images
    paused = session.denoise([replace(segment, stop=2) for segment in segments(1, 2, 3, 4)])
    survivors = [
        Segment(trial, state=carried(paused.states[row]))
        for row, trial in enumerate(trials(1, 2, 3, 4))
        if row in (1, 3)
    ]
    resumed = session.denoise(survivors).images
    assert float((resumed - whole[[1, 3]]).abs().max()) < 1e-5
    assert float((paused.images - whole).abs().max()) > 1e-2, "a pause that shows nothing new"


@slow_examples
@given(
    name=st.sampled_from([FLOW, ANCESTRAL]),
    stops=st.sets(st.integers(1, STEPS - 1), min_size=1),
)
def test_any_partition_of_the_steps_gives_the_image_of_one_go(
    name: str, stops: set[int], paced: Any
) -> None:
    session = paced[name].open(task(), images())
    whole = session.denoise(segments(5, 6)).images
    way = segments(5, 6)
    for stop in sorted(stops):
        paused = session.denoise([replace(segment, stop=stop) for segment in way])
        way = [
            Segment(segment.trial, None, state)
            for segment, state in zip(way, paused.states, strict=True)
        ]
    assert torch.equal(session.denoise(way).images, whole)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_paused_and_resumed_a_trial_costs_what_it_costs_in_one_go(name: str, paced: Any) -> None:
    editor = paced[name]
    whole = editor.open(task(), images()).advance(trials(1, 2))
    session = editor.open(task(), images())
    ways = [session.advance(to(stop, *trials(1, 2))) for stop in (2, 5, None)]
    each = whole[0].nfe // steps_of(editor)
    assert [way[0].nfe for way in ways] == [2 * each, 3 * each, whole[0].nfe - 5 * each]
    assert [way[0].state is None for way in ways] == [False, False, True]
    assert all(render.image.size == whole[0].image.size for way in ways for render in way)
    assert all(same(one, other) for one, other in zip(whole, ways[-1], strict=True))
    assert not any(render.notes for way in ways for render in way)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_another_worker_goes_on_from_the_bytes(name: str, folders: Any, paced: Any) -> None:
    whole = paced[name].open(task(), images()).advance(trials(1, 2))
    paused = paced[name].open(task(), images()).advance(to(4, *trials(1, 2)))
    other = (
        open_editor(Settings(_env_file=None), "cpu") if name == "demo" else editor_of(folders[name])
    )
    states = {render.trial.id: render.state for render in paused}
    resumed = other.open(task(), images()).advance(trials(1, 2), states=states)
    assert all(same(one, two) for one, two in zip(whole, resumed, strict=True))
    left = steps_of(other) - 4
    assert [render.nfe for render in resumed] == [left * passes_per_step(other)] * 2
    assert all(len(state) < 20_000 for state in states.values())


def test_a_sampler_that_draws_noise_on_the_way_needs_its_generator(paced: Any) -> None:
    """Otherwise the tests of InstructPix2Pix would prove nothing."""
    session = paced[ANCESTRAL].open(task(), images())
    whole = session.denoise(segments(1)).images
    state = session.denoise([replace(segments(1)[0], stop=2)]).states[0]
    forgetful = replace(state, generator=None)
    wrong = session.denoise([Segment(trials(1)[0], state=forgetful)]).images
    assert float((wrong - whole).abs().max()) > 1e-3
    assert session.denoise([Segment(trials(1)[0], state=state)]).images.equal(whole)


@pytest.mark.parametrize(
    ("scheduler", "arguments"), [("EulerDiscreteScheduler", {}), ("DDIMScheduler", {"eta": 0.7})]
)
def test_instruct_pix2pix_resumes_with_other_solvers(
    scheduler: str, arguments: dict[str, Any], folders: Any
) -> None:
    arguments = {"scheduler": {"_class_name": scheduler}, **arguments}
    session = editor_of(folders[ANCESTRAL], pipeline_args=arguments).open(task(), images())
    whole = session.denoise(segments(1, 2)).images
    paused = session.denoise([replace(segment, stop=3) for segment in segments(1, 2)])
    resumed = session.denoise([Segment(trials(1, 2)[1], state=carried(paused.states[1]))]).images
    assert float((resumed - whole[1]).abs().max()) < 1e-5


@pytest.mark.parametrize("scheduler", ["PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_with_a_solver_that_cannot_resume_pausing_is_refused_and_rendering_is_not(
    scheduler: str, folders: Any
) -> None:
    arguments = {"scheduler": {"_class_name": scheduler}}
    session = editor_of(folders[ANCESTRAL], pipeline_args=arguments).open(task(), images())
    with pytest.raises(EditorError, match=scheduler) as caught:
        session.advance(to(2, *trials(1)))
    assert "DDIMScheduler" in caught.value.hint
    assert session.advance(trials(1))[0].image is not None


def test_steps_without_a_preview_are_refused_and_steps_past_the_end_are_the_end(
    paced: Any,
) -> None:
    session = paced[FLOW].open(task(), images())
    whole = session.advance(trials(1))[0]
    for step in (0, -3):
        with pytest.raises(EditorError, match="step 1 and 5"):
            session.advance(to(step, *trials(1)))
    for step in (STEPS, STEPS + 9):
        (render,) = session.advance(to(step, *trials(1)))
        assert same(render, whole)
        assert (render.state, render.nfe) == (None, whole.nfe)


def test_previews_come_near_to_the_end_on_the_demo_editor(demo: Any) -> None:
    session = demo.open(task("give the bear a red hat"), images((256, 256)))
    stops = (2, 5, 8, 11, None)
    seen = [session.advance(to(stop, *trials(3, 4))) for stop in stops]
    final = seen.pop()
    distances = [
        np.mean([np.abs(pixels(a) - pixels(b)).mean() for a, b in zip(way, final, strict=True)])
        for way in seen
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 3


def test_trials_at_different_steps_go_on_together_each_from_where_it_stood(paced: Any) -> None:
    editor = paced[FLOW]
    asked = trials(1, 2, 3, 4)
    whole = editor.open(task(), images()).advance(asked)
    session = editor.open(task(), images())
    session.advance(to(2, *asked[:3]))
    session.advance(to(4, asked[1]))
    renders = session.advance([asked[3], *to(3, asked[2]), asked[1], asked[0]])
    assert [render.trial.id for render in renders] == ["c3", "c2", "c1", "c0"]
    steps = [render.nfe // (whole[0].nfe // STEPS) for render in renders]
    assert steps == [6, 1, 2, 4]
    assert same(renders[0], whole[3])
    assert same(renders[2], whole[1])
    assert same(renders[3], whole[0])
    assert renders[1].state is not None


@pytest.mark.parametrize("name", [FLOW, ANCESTRAL])
def test_a_batch_of_previews_is_decoded_at_once_and_every_step_ticks(name: str, paced: Any) -> None:
    editor = paced[name]
    decoded: list[int] = []
    hook = editor.family.pipe.vae.decoder.register_forward_pre_hook(
        lambda _module, args: decoded.append(len(args[0]))
    )
    ticks: list[int] = []
    editor.open(task(), images()).advance(to(2, *trials(1, 2, 3)), lambda: ticks.append(1))
    hook.remove()
    assert decoded == [3]
    assert len(ticks) == 2


def cancelled_at(count: int) -> Any:
    left = iter(range(count))

    def tick() -> None:
        if next(left, None) is None:
            raise CancelledError("Cancelled.")

    return tick


@pytest.mark.parametrize("ticks", [1, 4])
def test_a_cancelled_batch_loses_nothing_that_was_paused_before(ticks: int, paced: Any) -> None:
    """After four ticks the first trial's part is already over, and the second's is not."""
    editor = paced[FLOW]
    whole = editor.open(task(), images()).advance(trials(1, 2))
    session = editor.open(task(), images())
    session.advance(to(2, *trials(1, 2)))
    mixed = [*to(5, trials(1, 2)[0]), trials(1, 2)[1]]
    with pytest.raises(CancelledError):
        session.advance(mixed, cancelled_at(ticks))
    again = session.advance(mixed)
    each = whole[0].nfe // STEPS
    assert [render.nfe for render in again] == [3 * each, 4 * each]
    assert same(again[1], whole[1])
    assert same(session.advance(trials(1))[0], whole[0])


def test_a_trial_without_a_state_is_rendered_again_and_says_so(folders: Any) -> None:
    editor = editor_of(folders[FLOW], paused_bytes=10_000)
    session = editor.open(task(), images())
    whole = session.advance(trials(1))[0]
    first, second, third = trials(1, 2, 3)
    session.advance(to(3, first, second, third))
    kept = session.advance([third])[0]
    lost = session.advance([first])[0]
    assert (kept.nfe, kept.notes) == (whole.nfe // 2, ())
    assert lost.nfe == whole.nfe
    assert "lost" in lost.notes[0]
    assert same(lost, whole)
    elsewhere = editor_of(folders[FLOW]).open(task(), images())
    (told,) = elsewhere.advance([first], states={"c0": None})
    assert "lost" in told.notes[0]
    assert elsewhere.advance([second])[0].notes == (), "a trial that never paused"


def test_an_earlier_step_is_rendered_again_and_says_so(paced: Any) -> None:
    session = paced[FLOW].open(task(), images())
    early = session.advance(to(2, *trials(1)))[0]
    session.advance(to(4, *trials(1)))
    again = session.advance(to(2, *trials(1)))[0]
    assert "was paused at step 4" in again.notes[0]
    assert again.nfe == early.nfe
    assert same(again, early)
    assert again.state == early.state


def test_of_two_states_the_further_one_is_resumed(paced: Any, folders: Any) -> None:
    session = paced[FLOW].open(task(), images())
    session.advance(to(2, *trials(1)))
    elsewhere = editor_of(folders[FLOW]).open(task(), images())
    (further,) = elsewhere.advance(to(5, *trials(1)))
    (render,) = session.advance(trials(1), states={"c0": further.state})
    assert render.nfe == further.nfe // 5


def test_a_trial_of_the_same_name_with_another_noise_does_not_take_the_state(paced: Any) -> None:
    session = paced[FLOW].open(task(), images())
    session.advance(to(3, *trials(1)))
    child = Trial("c0", Noise(1).moved(0.4, 9))
    (render,) = session.advance([child])
    assert render.nfe == session.advance(trials(7))[0].nfe
    assert not same(render, session.advance(trials(1))[0])


@pytest.fixture(scope="module")
def paused_state(paced: Any) -> bytes:
    (render,) = paced[FLOW].open(task(), images()).advance(to(3, *trials(1)))
    return bytes(render.state)


def refusal(editor: Any, state: bytes, asked: Trial | None = None, **opened: Any) -> Any:
    """What becomes of a trial whose state is wrong, and of its neighbour in the batch."""
    session = editor.open(opened.get("task", task()), opened.get("images", images()))
    asked = asked or trials(1)[0]
    neighbour = Trial("c9", Noise(9), to_step=1)
    refused, healthy = session.advance([asked, neighbour], states={asked.id: state})
    assert healthy.image is not None
    assert (refused.nfe, refused.image) == (0, None)
    return refused.failure


@slow_examples
@given(data=st.data())
def test_damaged_states_are_refused(data: st.DataObject, paced: Any, paused_state: bytes) -> None:
    if data.draw(st.booleans()):
        damaged = paused_state[: data.draw(st.integers(0, len(paused_state) - 1))]
    else:
        where = data.draw(st.integers(0, len(paused_state) - 1))
        flipped = paused_state[where] ^ (1 << data.draw(st.integers(0, 7)))
        damaged = paused_state[:where] + bytes([flipped]) + paused_state[where + 1 :]
    failure = refusal(paced[FLOW], damaged)
    assert failure.code == "damaged_state"
    assert "damaged" in failure.message


def test_pickles_and_other_safetensors_are_refused(paced: Any) -> None:
    import pickle

    import safetensors.torch

    for content in (
        pickle.dumps(print),
        b"",
        safetensors.torch.save({"latents": torch.zeros(3)}),
    ):
        assert refusal(paced[FLOW], content).code == "damaged_state"


def test_states_of_somebody_else_are_refused(paced: Any, folders: Any, paused_state: bytes) -> None:
    editor = paced[FLOW]
    others = {
        "noise": refusal(editor, paused_state, trials(2)[0]),
        "move": refusal(editor, paused_state, Trial("c0", Noise(1).moved(0.1, 2))),
        "instruction": refusal(editor, paused_state, task=task("something else")),
        "suffix": refusal(
            editor, paused_state, replace(trials(1)[0], instruction_suffix="with a hat")
        ),
        "settings": refusal(editor_of(folders[FLOW], guidance=4.0), paused_state),
        "steps": refusal(editor_of(folders[FLOW], steps=5), paused_state),
    }
    for difference, failure in others.items():
        assert failure.code == "foreign_state", difference
        assert "another task" in failure.message


def test_in_bfloat16_too_a_batch_goes_on_exactly(folders: Any) -> None:
    for name in (FLOW, ANCESTRAL):
        session = editor_of(folders[name], editor_dtype="bfloat16").open(task(), images())
        whole = session.denoise(segments(1, 2)).images
        paused = session.denoise([replace(segment, stop=3) for segment in segments(1, 2)])
        way = [
            Segment(trial, state=carried(state))
            for trial, state in zip(trials(1, 2), paused.states, strict=True)
        ]
        assert torch.equal(session.denoise(way).images, whole)


def test_memory_that_is_short_halves_resumed_batches_too(paced: Any) -> None:
    editor = paced[FLOW]
    asked = trials(1, 2, 3, 4)
    whole = editor.open(task(), images()).advance(asked)
    session = editor.open(task(), images())
    session.advance(to(3, *asked))
    with memory_for(editor, rows=2):
        pressed = session.advance(asked)
    assert all(same(one, other) for one, other in zip(whole, pressed, strict=True))
    assert all("at once instead of 4" in render.notes[0] for render in pressed)


@pytest.fixture
def text_passes(paced: Any) -> Iterator[list[int]]:
    """Hears of every call of the text encoder."""
    calls: list[int] = []
    hook = paced[FLOW].family.pipe.text_encoder.register_forward_pre_hook(
        lambda *_: calls.append(1)
    )
    yield calls
    hook.remove()


def test_what_is_appended_to_the_instruction_is_seen_and_encoded_once(
    paced: Any, text_passes: list[int]
) -> None:
    editor = paced[FLOW]
    plain, hat, bow = trials(1, 1, 1)
    hat = replace(hat, instruction_suffix="and add a hat")
    bow = replace(bow, instruction_suffix="and add a bow")
    session = editor.open(task(), images())
    once = len(text_passes)
    renders = session.advance([hat, plain, bow])
    paused = session.advance(to(2, hat, bow))
    session.advance([hat, bow])
    assert len(text_passes) == 3 * once
    said = editor.open(task(f"{task().instruction} and add a hat"), images()).advance(trials(1))
    assert same(renders[0], said[0])
    assert not same(renders[0], renders[1])
    assert not same(renders[0], renders[2])
    assert not same(paused[0], paused[1])


@pytest.mark.parametrize(
    ("name", "words", "arguments"),
    [
        ("instruct_pix2pix", 20, {}),
        ("flux_kontext", 20, {"max_sequence_length": 64}),
        ("flux2_klein", 20, {"max_sequence_length": 64}),
    ],
)
def test_an_appendix_that_would_be_cut_off_is_refused(
    name: str, words: int, arguments: dict[str, Any], folders: Any
) -> None:
    editor = editor_of(folders[name], steps=2, pipeline_args=arguments)
    session = editor.open(task("green"), images())
    long = replace(trials(1)[0], instruction_suffix="large " * words)
    short = Trial("c1", Noise(2), instruction_suffix="now")
    refused, rendered = session.advance([long, short])
    assert refused.failure.code == "instruction_too_long"
    assert "tokens longer" in refused.failure.message
    assert rendered.image is not None


def test_what_one_session_paused_does_not_make_the_next_one_cheaper(paced: Any) -> None:
    editor = paced[FLOW]
    editor.open(task(), images()).advance(to(3, *trials(1)))
    (render,) = editor.open(task(), images()).advance(trials(1))
    assert render.nfe == STEPS * passes_per_step(editor)
    assert render.notes == ()
