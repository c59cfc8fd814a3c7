"""Candidates whose order is known: rankings of one's own, the demo's tasks, and EditReward-Bench.

Nothing is rendered and nothing fetched: pictures are read from files, from the artifact store, or
from the data set's own rows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image

from eacps.artifacts import ArtifactStore, open_store
from eacps.domain import digest
from eacps.errors import SettingsError
from eacps.images import ImageLimits, decode
from eacps.settings import Settings

ROWS: Final = (".jsonl", ".json", ".parquet")
LIMITS: Final = ImageLimits()
Load = Callable[[], Image.Image]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labelled:
    """One task with candidates, and the truth about each: a higher number is better."""

    name: str
    instruction: str
    source: Load = field(repr=False)
    candidates: Sequence[Load] = field(repr=False)
    truth: Sequence[float]


def read_labelled(path: Path, settings: Settings) -> list[Labelled]:
    """The tasks in a file of rows, or in every such file below a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in ROWS)
    if not files:
        raise SettingsError(
            f"{path} has no rows.",
            hint="Pass the output of `eacps export`, or a folder with .jsonl or .parquet files.",
        )
    found: list[Labelled] = []
    for file in files:
        found += _of_file(file, settings)
    if not found:
        raise SettingsError(
            f"No row of {path} has candidates in an order.",
            hint="docs/judges.md lists the layouts that are read.",
        )
    return found


def demo_labelled(count: int, seed: int = 5) -> list[Labelled]:
    """Drawn bears: the right edit, and edits that do too little, too much, or something else."""
    from eacps.demo.bears import attributes, random_edit, render
    from eacps.demo.tasks import demo_tasks

    chance = Random(seed)  # noqa: S311 - drawings that repeat
    found = []
    for number, task in enumerate(demo_tasks(count, seed)):
        scenes = [
            task.after,
            task.before,
            random_edit(task.after, chance),
            random_edit(task.before, chance),
        ]
        wanted = attributes(task.after)
        right = [
            sum(a == b for a, b in zip(attributes(scene), wanted, strict=True)) / len(wanted)
            for scene in scenes
        ]
        truth = [1.0 if share == 1 else share / 2 for share in right]
        loads = [_constant(render(scene)) for scene in scenes]
        name = f"demo-{seed}-{number}"
        found.append(Labelled(name, task.instruction, _constant(task.source), loads, truth))
    return found


def _constant(image: Image.Image) -> Load:
    return lambda: image


def _of_file(file: Path, settings: Settings) -> list[Labelled]:
    rows = list(_rows(file))
    comparisons = [row for row in rows if {"candidate_1", "candidate_2", "ranking"} <= row.keys()]
    found = _of_comparisons(comparisons, file)
    for number, row in enumerate(rows):
        name = f"{file.stem}-{row.get('id', number)}"
        if "output_images" in row and "input_image" in row:
            found += _of_pair(row, file, name)
        elif isinstance(row.get("ranked"), list) and isinstance(row.get("candidates"), dict):
            found += _of_review(row, settings)
        elif isinstance(row.get("candidates"), list) and "source" in row:
            found.append(_of_own(row, file, name))
    return found


def _rows(file: Path) -> Iterator[Row]:
    if file.suffix == ".parquet":
        try:
            from pyarrow import parquet  # type: ignore[import-untyped]
        except ImportError:
            raise SettingsError(
                f"{file.name} needs the package pyarrow.", hint="pip install pyarrow"
            ) from None
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=16):
            yield from batch.to_pylist()
        return
    try:
        text = file.read_text("utf-8")
        rows: Any = map(json.loads, filter(None, _lines(text)))
        if file.suffix == ".json":
            rows = json.loads(text)
        yield from (row for row in rows if isinstance(row, dict))
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{file} cannot be read as JSON rows: {error}.") from None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n")]


def _of_pair(row: Row, file: Path, name: str) -> list[Labelled]:
    """EditScore's EditReward-Bench: two outputs, of which the first is better."""
    outputs = row["output_images"]
    if not isinstance(outputs, Sequence) or len(outputs) != 2:
        return []
    keys = row.get("key")
    known = "-".join(map(str, keys)) if isinstance(keys, Sequence) else name
    dimension = row.get("dimension", "overall")
    loads = [_load(output, file) for output in outputs]
    instruction = str(row.get("instruction", ""))
    named = f"{known}-{dimension}"
    return [Labelled(named, instruction, _load(row["input_image"], file), loads, [1.0, 0.0])]


def _of_comparisons(rows: Sequence[Row], file: Path) -> list[Labelled]:
    """TIGER's EditReward-Bench: rows of two candidates with who is better; all rows that compare
    candidates of one sample are one task of 2, 3 or 4."""
    samples: dict[str, list[Row]] = {}
    for row in rows:
        sample = str(row.get("id", "")).rpartition("_")[0] or str(row.get("id", ""))
        size = str(row.get("dataset", ""))
        samples.setdefault(f"{size} {sample} {row.get('instruction', '')}", []).append(row)
    found: list[Labelled] = []
    for group in samples.values():
        loads: dict[str, Load] = {}
        better: set[tuple[str, str]] = set()
        for row in group:
            first, _, second = str(row.get("comparison_type") or "AvsB").partition("vs")
            loads.setdefault(first, _load(row["candidate_1"], file))
            loads.setdefault(second, _load(row["candidate_2"], file))
            won = str(row["ranking"]).replace(" ", "").partition(">")
            if won[1]:
                better.add((won[0], won[2]))
        names = sorted(loads)
        truth = [float(sum(pair[0] == name for pair in better)) for name in names]
        if len(set(truth)) > 1:
            row = group[0]
            source = _load(row["source_image"], file)
            instruction = str(row.get("instruction", ""))
            title = f"{row.get('dataset', 'pair')}-{row.get('id', len(found))}"
            found.append(Labelled(title, instruction, source, [loads[n] for n in names], truth))
    return found


def _of_own(row: Row, file: Path, name: str) -> Labelled:
    """Our own rows: `source`, `instruction`, and candidates with `image` and `grade`."""
    given = [each for each in row["candidates"] if isinstance(each, dict) and "grade" in each]
    loads = [_load(each.get("image"), file) for each in given]
    truth = [float(each["grade"]) for each in given]
    source = _load(row["source"], file)
    return Labelled(name, str(row.get("instruction", "")), source, loads, truth)


def _of_review(row: Row, settings: Settings) -> list[Labelled]:
    """A line of `eacps export`: ranked candidates, the top one first; rejected ones are worst."""
    candidates: Mapping[str, Any] = row["candidates"]
    ranked = [name for name in row["ranked"] if name in candidates]
    rejected = [name for name in row.get("rejected") or () if name in candidates]
    names = [*ranked, *rejected]
    if row.get("problems") or len(names) < 2:
        return []
    truth = [float(len(ranked) - place) for place in range(len(ranked))] + [0.0] * len(rejected)
    task = row.get("task_data") if isinstance(row.get("task_data"), dict) else {}
    assert isinstance(task, dict)
    instruction = row.get("instruction") or task.get(settings.instruction_field)
    source = row.get("source_file") or row.get("source") or task.get(settings.image_field)
    store = open_store(settings)
    found = _searched(candidates[names[0]], settings) if not (instruction and source) else None
    if found is not None:
        instruction, source = instruction or found[0], source or found[1]
    if not instruction or not source:
        return []
    loads = [_stored(candidates[name].get("file"), store) for name in names]
    name = f"task {row.get('task')} annotation {row.get('annotation')}"
    return [Labelled(name, str(instruction), _stored(source, store), loads, truth)]


def _searched(candidate: Row, settings: Settings) -> tuple[str, str] | None:
    """The instruction and the source of the search that made a candidate, while it is kept."""
    from eacps.jobs import names
    from eacps.jobs.launch import open_records

    key = candidate.get("key")
    database = Path(settings.resolved_database_url.removeprefix("sqlite:///"))
    missing = settings.resolved_database_url.startswith("sqlite") and not database.exists()
    if not isinstance(key, str) or missing:
        return None
    identity = names.search_workflow(key)
    row = open_records(settings, 1).rows([identity]).get(identity)
    task = (row.input or {}).get("task") if row else None
    task = task if isinstance(task, dict) else (row.input if row else None)
    if not isinstance(task, dict) or "image" not in task:
        return None
    return str(task["instruction"]), str(task["image"])


def _stored(name: Any, store: ArtifactStore) -> Load:
    return lambda: decode(store.get(str(name)), LIMITS)


def _load(content: Any, file: Path) -> Load:
    """A picture of a row: a path beside the file, base64, or the bytes that data sets hold."""

    def load() -> Image.Image:
        if isinstance(content, Mapping):
            held = content.get("bytes")
            if isinstance(held, bytes):
                return decode(held, LIMITS)
            return _from_path(content.get("path"), file)
        if isinstance(content, bytes):
            return decode(content, LIMITS)
        if isinstance(content, str) and content.startswith("data:"):
            return decode(base64.b64decode(content.partition(",")[2]), LIMITS)
        return _from_path(content, file)

    return load


def _from_path(name: Any, file: Path) -> Image.Image:
    path = Path(str(name))
    for place in (path, file.parent / path, file.parent.parent / path):
        if place.is_file():
            return decode(place.read_bytes(), LIMITS)
    raise SettingsError(
        f"{file} names the picture {str(name)[:200]}, which is not there.",
        hint="Pictures lie beside the file that names them.",
    )


def digest_of(item: Labelled) -> str:
    """A name for a task that says which one it is, to resume a measurement."""
    return digest([item.name, item.instruction, list(item.truth)])
