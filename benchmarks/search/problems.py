"""Tasks with known ground truth, each with a seed that all its searches share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from demo.manifest import PACK
from eacps.demo.bears import SIZE
from eacps.demo.tasks import LEVELS, DemoTask, Level, demo_tasks
from eacps.domain import EditTask, SearchPlan
from eacps.search.seeds import derived_seed
from eacps.settings import Settings

Part = Literal["held-in", "held-out", "new"]
"""Settings are chosen on `held-in`; `held-out` is only reported. `new` is reported since version
0.2, because by then decisions had been made with results on `held-out` in sight."""
PARTS: Final[tuple[Part, ...]] = ("held-in", "held-out", "new")
NEW_SEEDS: Final = {"easy": 64_001, "medium": 64_002, "hard": 64_003}


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
        return derived_seed(_root(self.level, self.part), self.index)

    def task(self, plan: SearchPlan) -> EditTask:
        """The task for the search loop, rendered with the plan's steps."""
        return EditTask(self.name, self.bear.instruction, plan=plan, settings={"steps": plan.steps})


def problems(level: str, part: Part, count: int) -> list[Problem]:
    """The first `count` tasks of a level; a longer list begins with a shorter one."""
    bears = demo_tasks(count, _root(level, part), SIZE, level_named(level).single_share)
    return [Problem(level, part, index, bear) for index, bear in enumerate(bears)]


def _root(level: str, part: Part) -> int:
    named = level_named(level)
    seeds = {"held-in": named.held_in_seed, "held-out": named.held_out_seed}
    return seeds.get(part) or NEW_SEEDS[level]


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
