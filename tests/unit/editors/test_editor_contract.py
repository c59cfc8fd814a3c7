"""The editors of all families and the demo fulfil the contract of plug-ins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from eacps.domain import Trial
from eacps.editors import Render, open_editor
from eacps.editors.registry import FAMILIES
from eacps.settings import Settings
from eacps.testing import ContractError, check_editor
from tests.doubles import Painter, SlowPainter
from tests.tiny_pipelines import BUILDERS
from tests.unit.editors.editor_cases import tiny_settings

pytestmark = pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")
STEPS = 4


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_keeps_the_contract(name: str, folders: Any) -> None:
    check_editor(str(folders[name]), tiny_settings(folders[name], steps=STEPS))


def test_no_family_is_left_out(editors: Any) -> None:
    used = {type(editor.family) for editor in editors.values()}
    assert used == {FAMILIES.get(name) for name in FAMILIES.built_ins}


def test_the_demo_keeps_the_contract() -> None:
    settings = Settings(_env_file=None, steps=STEPS)
    check_editor(open_editor(settings, "cpu"), settings)


class Good(SlowPainter):
    """Paints more of its grey with every step, and can be paused."""

    def __init__(self) -> None:
        super().__init__(STEPS, name="good")

    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        seed = trial.noise.seed + sum(move.seed for move in trial.noise.moves)
        render = super()._painted(replace(trial, noise=replace(trial.noise, seed=seed)), state)
        return replace(render, trial=trial)


class Backwards(Good):
    def advance(self, *arguments: Any, **named: Any) -> list[Render]:
        return super().advance(*arguments, **named)[::-1]


class Grey(Good):
    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        render = super()._painted(trial, state)
        assert render.image
        return replace(render, image=render.image.convert("L"))


class Free(Good):
    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        return replace(super()._painted(trial, state), nfe=0)


class Alike(Good):
    """Ignores the noise."""

    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        same = replace(trial, noise=replace(trial.noise, seed=3, moves=()))
        return replace(super()._painted(same, state), trial=trial)


class Still(Good):
    """Ignores moves."""

    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        parent = replace(trial, noise=replace(trial.noise, moves=()))
        return replace(super()._painted(parent, state), trial=trial)


class Deaf(Good):
    def advance(self, trials: Any, tick: Any = None, states: Any = None) -> list[Render]:
        return super().advance(trials, states=states)


class Forgetful(Good):
    """Starts from the beginning, even with a state."""

    def advance(self, trials: Any, tick: Any = lambda: None, states: Any = None) -> list[Render]:
        return super().advance(trials, tick, None)


class Wrong(Good):
    """Resumed trials end differently."""

    def advance(self, trials: Any, tick: Any = lambda: None, states: Any = None) -> list[Render]:
        renders = super().advance(trials, tick, states)
        other = Image.new("RGB", self.size, (1, 2, 3))
        return [replace(one, image=other) if states else one for one in renders]


class Stateless(Good):
    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        return replace(super()._painted(trial, state), state=None)


class Lucky(Good):
    """No two renders of one trial are alike."""

    drawn = 0

    def _painted(self, trial: Trial, state: bytes | None) -> Render:
        Lucky.drawn += 7
        other = replace(trial, noise=replace(trial.noise, seed=Lucky.drawn))
        return replace(super()._painted(other, state), trial=trial)


def checked(editor: Any) -> None:
    check_editor(editor, Settings(_env_file=None, steps=STEPS))


def test_an_editor_of_ones_own_passes() -> None:
    checked(Good())


def test_an_editor_that_cannot_pause_says_so_and_passes() -> None:
    def refused(trial: Trial) -> Render:
        from eacps.domain import Failure

        if trial.to_step is not None:
            return Render(trial, 0, failure=Failure("cannot_pause", "It cannot."))
        grey = (trial.noise.seed + sum(move.seed for move in trial.noise.moves)) % 256
        return Render(trial, 3, Image.new("RGB", (32, 32), (grey, grey, grey)))

    checked(Painter(refused))


@pytest.mark.parametrize(
    ("editor", "words"),
    [
        (Backwards, "not in the order"),
        (Grey, "not an RGB image"),
        (Free, "is not positive"),
        (Alike, "two seeds give the same image"),
        (Still, "the same image as its parent"),
        (Deaf, "nothing can be cancelled"),
        (Wrong, "ends with a different image"),
        (Forgetful, "paused and resumed render costs"),
        (Stateless, "has no state"),
        (Lucky, "between a batch and a single render"),
    ],
)
def test_an_editor_that_breaks_the_contract_is_reported(editor: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        checked(editor())


def test_an_editor_named_as_the_setting_names_it_is_loaded(tmp_path: Any) -> None:
    (tmp_path / "painting.py").write_text(
        "from tests.unit.editors.test_editor_contract import Good\nclass Mine(Good):\n    pass\n"
    )
    check_editor(f"{tmp_path}/painting.py:Mine", Settings(_env_file=None, steps=STEPS))
