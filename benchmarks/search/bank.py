"""A cache of renders and scores: a crash-safe, append-only folder per task."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from eacps.domain import Noise, from_json, to_json

END: Final = -1
"""The step number of the end of a render."""


@dataclass(frozen=True, order=True)
class Wanted:
    """A look at a render: its recipe and the step; `drafted` is the number of steps of the whole
    render, if they are fewer than the search's."""

    key: str
    step: int
    drafted: int = 0

    @property
    def own(self) -> Wanted:
        """The look, as the bank of renders with so many steps knows it."""
        return replace(self, drafted=0)


@dataclass(frozen=True)
class Shard:
    """Some renders of one task: a picture of each at each step, and failures."""

    keys: list[str]
    steps: list[int]
    pictures: NDArray[numpy.uint8]
    failures: list[str]


@dataclass(frozen=True)
class Scores:
    """One scorer's values for a shard [render, step, name], and optionally features
    [render, step, feature]."""

    names: list[str]
    values: NDArray[numpy.float64]
    features: NDArray[numpy.float64]


View = Mapping[str, float]


class Bank:
    """All looks at one task's renders, by recipe and step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: dict[str, str] = {}
        self._views: dict[Wanted, View] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._features: dict[Wanted, NDArray[numpy.float64]] = {}
        self._count = 0

    def load(self, scorers: Iterable[str], scored: Callable[[Shard, str], Scores]) -> None:
        """Read all shards; `scored(shard, name)` computes missing scores."""
        for path in sorted(self.folder.glob("*.npz")):
            if "." in path.stem:
                continue
            shard = _read_shard(path)
            self._take(path, shard, [self._scores(path, shard, name, scored) for name in scorers])

    def add(self, shard: Shard, scores: Mapping[str, Scores]) -> None:
        """Store a shard: its scores first, so that an existing shard is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._count:04d}.npz"
        for name, one in scores.items():
            _write_scores(_scores_path(path, name), one)
        _write(
            path,
            header=_text({"keys": shard.keys, "steps": shard.steps, "failures": shard.failures}),
            pictures=shard.pictures,
        )
        self._take(path, shard, list(scores.values()))

    def view(self, wanted: Wanted) -> View | None:
        """The scores of a look, or None if it is missing."""
        return self._views.get(wanted)

    def features(self, wanted: Wanted) -> NDArray[numpy.float64]:
        """The CLIP features of a look, as a unit vector."""
        return self._features[wanted]

    @property
    def keys(self) -> list[str]:
        """The recipes of all renders, in the order of rendering."""
        return list(dict.fromkeys(wanted.key for wanted in self._views))

    def picture(self, key: str) -> NDArray[numpy.uint8]:
        """The result of a render."""
        path, row = self._places[key]
        shard = _read_shard(path)
        whole: NDArray[numpy.uint8] = shard.pictures[row, shard.steps.index(END)]
        return whole

    def _take(self, path: Path, shard: Shard, scores: Sequence[Scores]) -> None:
        self._count += 1
        for row, key in enumerate(shard.keys):
            self._places[key] = path, row
            if shard.failures[row]:
                self.failures[key] = shard.failures[row]
            for column, step in enumerate(shard.steps):
                view: dict[str, float] = {}
                for one in scores:
                    view.update(zip(one.names, one.values[row, column].tolist(), strict=True))
                    if one.features.size:
                        self._features[Wanted(key, step)] = one.features[row, column]
                self._views[Wanted(key, step)] = view

    def _scores(
        self, path: Path, shard: Shard, name: str, scored: Callable[[Shard, str], Scores]
    ) -> Scores:
        kept = _scores_path(path, name)
        if not kept.is_file():
            _write_scores(kept, scored(shard, name))
        with numpy.load(kept, allow_pickle=False) as file:
            names = json.loads(bytes(file["header"]))["names"]
            return Scores(names, file["values"], file["features"])


class Banks:
    """A task's banks, by the number of steps of its drafts (0: of the search's own renders), each
    read when it is first needed."""

    def __init__(self, opened: Callable[[int], Bank]) -> None:
        self.bank = cache(opened)

    def view(self, wanted: Wanted) -> View | None:
        """The scores of a look, or None if it is missing."""
        return self.bank(wanted.drafted).view(wanted.own)

    def features(self, wanted: Wanted) -> NDArray[numpy.float64]:
        """The CLIP features of a look, as a unit vector."""
        return self.bank(wanted.drafted).features(wanted.own)

    def failure(self, wanted: Wanted) -> str:
        """Why its render failed, or nothing."""
        return self.bank(wanted.drafted).failures.get(wanted.key, "")

    def missing(self, looks: Iterable[Wanted]) -> list[Wanted]:
        """The looks that they do not have."""
        return [look for look in looks if missing(self.bank(look.drafted), [look.own])]


def key_of(noise: Noise, suffix: str = "", start: str = "") -> str:
    """A render's recipe as text; `start` is that of the edit that it edits, if it does."""
    recipe = [to_json(noise), suffix, *([start] if start else [])]
    return json.dumps(recipe, separators=(",", ":"), sort_keys=True)


def noise_of(key: str) -> tuple[Noise, str]:
    """The noise and the suffix of a recipe."""
    noise, suffix, *_ = json.loads(key)
    return from_json(Noise, noise), suffix


def start_of(key: str) -> str:
    """The recipe of the edit that a recipe edits, or nothing."""
    found = json.loads(key)[2:]
    return str(found[0]) if found else ""


def missing(bank: Bank, looks: Iterable[Wanted]) -> list[Wanted]:
    """The looks that the bank does not have."""
    return [look for look in looks if bank.view(look) is None and look.key not in bank.failures]


def _read_shard(path: Path) -> Shard:
    with numpy.load(path, allow_pickle=False) as file:
        header = json.loads(bytes(file["header"]))
        return Shard(header["keys"], header["steps"], file["pictures"], header["failures"])


def _scores_path(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}.npz")


def _write_scores(path: Path, scores: Scores) -> None:
    header = _text({"names": scores.names})
    _write(path, header=header, values=scores.values, features=scores.features)


def _write(path: Path, **arrays: Any) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with unfinished.open("wb") as file:
        numpy.savez_compressed(file, **arrays)
    unfinished.replace(path)


def _text(content: Any) -> NDArray[numpy.uint8]:
    return numpy.frombuffer(json.dumps(content).encode(), numpy.uint8)
