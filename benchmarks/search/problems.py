"""Tasks with known ground truth, each with a seed that all its searches share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from demo.manifest import PACK
from eacps.demo.bears import SIZE
from eacps.demo.tasks import LEVELS, DemoTask, Level
from eacps.domain import EditTask, SearchPlan
from eacps.search.seeds import derived_seed
from eacps.settings import Settings

Part = Literal["held-in", "held-out"]
"""Settings are chosen on `held-in`; `held-out` is only reported."""
PARTS: Final[tuple[Part, ...]] = ("held-in", "held-out")


@dataclass(frozen=True)
class Problem:
    """One task of one level."""

    level: str
    part: Part
    index: int
    bear: DemoTask

    @property
    def name(self) -> str:
        """`medium/held-in/0007`."""
        return f"{self.level}/{self.part}/{self.index:04d}"

    @property
    def seed(self) -> int:
        """The seed of all searches of this task, which allows paired comparisons."""
        level = level_named(self.level)
        root = level.held_in_seed if self.part == "held-in" else level.held_out_seed
        return derived_seed(root, self.index)

    def task(self, plan: SearchPlan) -> EditTask:
        """The task for the search loop."""
        return EditTask(self.name, self.bear.instruction, plan=plan)


def problems(level: str, part: Part, count: int) -> list[Problem]:
    """The first `count` tasks of a level; a longer list begins with a shorter one."""
    named = level_named(level)
    bears = (named.held_in if part == "held-in" else named.held_out)(count, SIZE)
    return [Problem(level, part, index, bear) for index, bear in enumerate(bears)]


def level_named(name: str) -> Level:
    """The level of that name."""
    return next(level for level in LEVELS if level.name == name)


def settings_of(level: str) -> Settings:
    """The level's editor and sampling, and the pack's judges, independent of the environment."""
    sampling = level_named(level).settings
    return Settings(
        _env_file=None,
        editor=str(PACK / sampling.editor),
        steps=sampling.steps,
        guidance=sampling.guidance,
        image_guidance=1.0,
        clip=str(PACK / "clip"),
        potential="eacps",
    )
