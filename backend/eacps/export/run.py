"""`eacps export`: reads a project's reviews one after another, and writes what was asked for."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn

from eacps.errors import SettingsError
from eacps.export.layouts import Layout, Sides, about, row_of, schema_of
from eacps.export.pairs import Pair, pairs, usable
from eacps.export.pictures import Pictures
from eacps.export.table import (
    CsvRows,
    JsonLines,
    ParquetRows,
    Rows,
    format_of,
    opened,
    parquet_file,
)
from eacps.labelstudio.client import LabelStudioClient, open_client
from eacps.labelstudio.connect import project_row
from eacps.labelstudio.connections import row_of as backend_row
from eacps.labelstudio.reviews import reviewed_tasks, reviews
from eacps.labelstudio.tasks.choices import choices_of
from eacps.labelstudio.tasks.regions import mapping, text
from eacps.offline.output import DATA_FOLDER, OutputFolder
from eacps.offline.progress import progress_bar
from eacps.settings import Settings

_COUNTED = (
    *("pictures", "pairs", "pairs without pictures"),
    "reviews without pairs, because they contradict themselves or their pictures are unknown",
)
PAIRS_AT_ONCE = 16
"""Pairs whose pictures are in memory together."""


@dataclass(frozen=True)
class Wanted:
    """What is exported, and where to. Without files, the table goes to standard output."""

    table: Path | None = None
    format: str = ""
    pictures: Path | None = None
    pairs: Path | None = None
    layout: Layout = "images"
    unchanged: bool = False
    """Also pairs in the order that the search gave them."""

    @property
    def to_files(self) -> bool:
        """Whether anything is written to files."""
        return any((self.table, self.pictures, self.pairs))


@dataclass
class Exported:
    """What was exported."""

    counts: Counter[str] = field(default_factory=Counter)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Which pictures were not found, and why."""

    @property
    def summary(self) -> str:
        """What was exported, in a sentence."""
        said = [f"{self.counts['reviews']} reviews"]
        said += [f"{self.counts[name]} {name}" for name in _COUNTED if self.counts[name]]
        if self.missing:
            said.append(f"{len(self.missing)} pictures are missing")
        return f"Exported: {', '.join(said)}."


def export(settings: Settings, project: int, wanted: Wanted, console: Console) -> Exported:
    """Export a project's reviews."""
    client = open_client(settings)
    return _Export(settings, client, project_row(client, project), wanted).run(console)


class _Export:
    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        project: Mapping[str, Any],
        wanted: Wanted,
    ) -> None:
        self._settings = settings
        self._client = client
        self._project = project
        self._wanted = wanted
        self._done = Exported()
        _require_possible(wanted)
        self._pictures = Pictures(settings, client, wanted.pictures)
        rows = client.list_rows("/api/ml", project=int(project["id"]))
        ours = backend_row(rows, settings.resolved_public_url) or {}
        self._extra_params = ours.get("extra_params")

    def run(self, console: Console) -> Exported:
        """Write everything that is wanted."""
        wanted = self._wanted
        with ExitStack() as files:
            table = self._table(files)
            made = _PairsFile(wanted, self._pictures, files) if wanted.pairs else None
            bar = files.enter_context(_bar(console, self._project)) if wanted.to_files else None
            for task in reviewed_tasks(self._client, int(self._project["id"])):
                for review in self._reviews(task):
                    self._done.counts["reviews"] += 1
                    if table:
                        table.add([review])
                    if made:
                        made.add(task, review, self._done.counts)
                if bar:
                    bar.advance(bar.task_ids[0])
            if made:
                made.finish()
        self._done.missing = self._pictures.missing
        return self._done

    def _table(self, files: ExitStack) -> Rows | None:
        wanted = self._wanted
        if wanted.table:
            kind = format_of(wanted.table, wanted.format)
            path = files.enter_context(_place(wanted.table))
            return files.enter_context(opened(path, kind))
        if wanted.pictures or wanted.pairs:
            return None
        return CsvRows(sys.stdout) if wanted.format == "csv" else JsonLines(sys.stdout)

    def _reviews(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        data = mapping(task.get("data"))
        config = self._project.get("label_config")
        chosen = choices_of(data, config, self._extra_params, self._settings)
        seen = self._settings.changed(chosen.columns)
        self._pictures.original_field = seen.image_field
        instruction = text(data.get(seen.instruction_field)) or chosen.default_instruction
        for review in reviews(task, config):
            review["prompt"] = _typed_for(review) or instruction or None
            review["original"] = text(data.get(seen.image_field)) or None
            if self._wanted.pictures:
                self._keep_pictures(task, review)
            yield review

    def _keep_pictures(self, task: Mapping[str, Any], review: dict[str, Any]) -> None:
        table = self._wanted.table
        review["original_file"] = self._path(self._pictures.keep_original(task), table)
        for name, record in mapping(review["candidates"]).items():
            kept = self._pictures.keep_candidate(task, name, record)
            record["picture"] = self._path(kept, table)
            self._done.counts["pictures"] += kept is not None

    def _path(self, kept: str | None, beside: Path | None) -> str | None:
        """A picture's path as seen from the file that names it."""
        if kept is None or self._wanted.pictures is None:
            return None
        path = self._wanted.pictures / kept
        return os.path.relpath(path, beside.parent) if beside else str(path)


def _typed_for(review: Mapping[str, Any]) -> str:
    """The instruction of the best candidate, which need not be the task's; empty if unknown."""
    best = next(iter(review["ranked"]), "")
    return text(mapping(mapping(review["candidates"]).get(best)).get("instruction"))


class _PairsFile:
    def __init__(self, wanted: Wanted, pictures: Pictures, files: ExitStack) -> None:
        assert wanted.pairs is not None
        self._wanted = wanted
        self._pictures = pictures
        self._pending: list[dict[str, Any]] = []
        path = files.enter_context(_place(wanted.pairs))
        self._parquet = format_of(wanted.pairs) == "parquet"
        if self._parquet:
            file = parquet_file(path, schema_of(wanted.layout))
            self._rows: ParquetRows | JsonLines = files.enter_context(file)
        else:
            self._rows = JsonLines(files.enter_context(path.open("w", encoding="utf-8")))

    def add(self, task: Mapping[str, Any], review: dict[str, Any], counts: Counter[str]) -> None:
        """Add the pairs of a review."""
        if not usable(review):
            counts[_COUNTED[-1]] += 1
            return
        for pair in pairs(review, unchanged=self._wanted.unchanged):
            row = self._embedded(task, pair) if self._parquet else self._named(task, pair)
            counts["pairs" if row else "pairs without pictures"] += 1
            if row:
                self._pending.append(row)
            if len(self._pending) >= PAIRS_AT_ONCE:
                self.finish()

    def finish(self) -> None:
        """Write what is pending."""
        self._rows.add(self._pending)
        self._pending = []

    def _embedded(self, task: Mapping[str, Any], pair: Pair) -> dict[str, Any] | None:
        chosen, rejected = (
            self._pictures.candidate(task, name, pair.record(name))
            for name in (pair.chosen, pair.rejected)
        )
        if chosen is None or rejected is None:
            return None
        sides = Sides(pair, self._pictures.original(task), chosen, rejected)
        return row_of(self._wanted.layout)(sides)

    def _named(self, task: Mapping[str, Any], pair: Pair) -> dict[str, Any] | None:
        """A row with the paths of its pictures, as seen from the file of pairs."""
        assert self._wanted.pictures is not None
        assert self._wanted.pairs is not None
        kept = {"original_file_name": self._pictures.keep_original(task)}
        for key, name in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            record = pair.record(name)
            kept[f"{key}_file_name"] = self._pictures.keep_candidate(task, name, record)
        if not kept["chosen_file_name"] or not kept["rejected_file_name"]:
            return None
        folder, beside = self._wanted.pictures, self._wanted.pairs.parent
        paths = {key: path and os.path.relpath(folder / path, beside) for key, path in kept.items()}
        return {**about(pair), **paths}


def _place(path: Path) -> Any:
    """A file to write that takes its place when it is whole, if nothing of others is there."""
    return OutputFolder(path.parent, path.parent / DATA_FOLDER).writing_file(path.name)


def _bar(console: Console, project: Mapping[str, Any]) -> Progress:
    bar = progress_bar(console, TextColumn("{task.completed} of {task.total} tasks"))
    bar.add_task("Exporting", total=int(project.get("num_tasks_with_annotations") or 0) or None)
    return bar


def _require_possible(wanted: Wanted) -> None:
    """Raise SettingsError if the options do not fit together."""
    if wanted.table is None and wanted.format == "parquet":
        raise SettingsError("Parquet is not printed.", hint="Add --out FILE.parquet.")
    if wanted.table is not None:
        format_of(wanted.table, wanted.format)
    if wanted.pairs is None:
        return
    pairs_kind = format_of(wanted.pairs)
    if pairs_kind == "csv":
        raise SettingsError("Pairs are not written as CSV.", hint="Use .jsonl or .parquet.")
    if pairs_kind == "jsonl" and wanted.layout != "images":
        raise SettingsError(
            f"The layout {wanted.layout} contains the pictures themselves.",
            hint="Use a file that ends with .parquet.",
        )
    if pairs_kind == "jsonl" and wanted.pictures is None:
        raise SettingsError(
            "Pairs in JSON Lines name files of pictures.",
            hint="Add --pictures FOLDER, or use a file that ends with .parquet.",
        )
