"""Reviews as one table: CSV, JSON Lines or Parquet, one row per annotation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TextIO, cast, get_args

from eacps.errors import SettingsError
from eacps.labelstudio.tasks.regions import mapping, sequence

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: Final[tuple[str, ...]] = get_args(Format)
ROWS_AT_ONCE: Final = 500
"""Rows of a Parquet file that are in memory together."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_INT64: Final = range(-(2**63), 2**63)
_TEXTS: Final = (
    *("prompt", "original", "original_file", "verdict", "comment"),
    *("best_by_human", "best_by_machine"),
)
_OF_BEST: Final = ("file", "score", "potential", "seed", "steps")
"""What a CSV file says of both winners in columns of their own."""


class Rows(Protocol):
    """Takes the rows of a table."""

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows."""


def format_of(path: Path | None, asked: str = "") -> Format:
    """The format of a file: the one that was asked for, or that of its suffix."""
    name = asked or (path.suffix.removeprefix(".").lower() if path else "jsonl")
    name = {"ndjson": "jsonl", "json": "jsonl", "pq": "parquet"}.get(name, name)
    if name not in FORMATS:
        raise SettingsError(
            f"{str(path) if path and not asked else asked!r} names no format.",
            hint="Use --format, or a file that ends with .csv, .jsonl or .parquet.",
        )
    if name == "parquet":
        arrow()
    return cast(Format, name)


def arrow() -> Any:
    """The module pyarrow, with its submodule parquet."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise SettingsError(
            "Parquet files need the package pyarrow.",
            hint="Run `pip install 'eacps[parquet]'`, or choose another format.",
        ) from None
    return pyarrow


@contextmanager
def opened(path: Path, kind: Format) -> Iterator[Rows]:
    """A table in a file, which is written as rows are added."""
    if kind == "parquet":
        with parquet_file(path, _schema()) as table:
            yield _Nested(table)
        return
    # A byte order mark tells Excel that the file is UTF-8.
    encoding = "utf-8-sig" if kind == "csv" else "utf-8"
    with path.open("w", encoding=encoding, newline="") as file:
        yield CsvRows(file) if kind == "csv" else JsonLines(file)


@contextmanager
def parquet_file(path: Path, schema: Any) -> Iterator[ParquetRows]:
    """A Parquet file of this schema."""
    with arrow().parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        yield ParquetRows(writer, schema)


class JsonLines:
    """One JSON object per line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows."""
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")


class CsvRows:
    """Comma separated values, with lists and candidates as JSON."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.DictWriter(file, list(_flat({})))
        self._writer.writeheader()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows; no cell is one that a spreadsheet takes for a formula."""
        for row in rows:
            self._writer.writerow({name: _cell(value) for name, value in _flat(row).items()})


class ParquetRows:
    """Rows of a Parquet file, some hundred at once."""

    def __init__(self, writer: Any, schema: Any, at_once: int = ROWS_AT_ONCE) -> None:
        self._writer = writer
        self._schema = schema
        self._at_once = at_once

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows."""
        pending = iter(rows)
        while portion := list(islice(pending, self._at_once)):
            table = arrow().Table.from_pylist(portion, schema=self._schema)
            self._writer.write_table(table)


class _Nested:
    """Reviews in a Parquet file: candidates are a list of structures."""

    def __init__(self, table: ParquetRows) -> None:
        self._table = table

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._table.add(map(_nested, rows))


def csv_text(row: Mapping[str, Any]) -> str:
    """A row as CSV with its header, for tests and examples."""
    buffer = io.StringIO()
    CsvRows(buffer).add([row])
    return buffer.getvalue()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A review without nested values."""
    known = row.get("candidates") is not None
    candidates = mapping(row.get("candidates"))
    flat: dict[str, Any] = {name: row.get(name) for name in ("task", "annotation", "by")}
    flat |= {"updated_at": row.get("updated_at")}
    flat |= {name: row.get(name) for name in _TEXTS}
    for whose in ("best_by_human", "best_by_machine"):
        best = mapping(candidates.get(str(row.get(whose))))
        flat |= {f"{whose}_{name}": best.get(name) for name in _OF_BEST}
        flat[f"{whose}_picture"] = best.get("picture") or best.get("image")
        flat[f"{whose}_metrics"] = _json(best.get("metrics"))
    flat["ranked"] = _json(row.get("ranked"))
    flat["rejected"] = _json(row.get("rejected"))
    flat["pictures_known"] = known if row else None
    flat["problems"] = " ".join(sequence(row.get("problems"))) or None
    flat["candidates"] = _json(row.get("candidates"))
    return flat


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    candidates = row.get("candidates")
    return {
        **{key: value for key, value in row.items() if key != "candidates"},
        "pictures_known": candidates is not None,
        "candidates": [_candidate(name, each) for name, each in mapping(candidates).items()],
    }


def _candidate(name: str, record: Any) -> dict[str, Any]:
    content = mapping(record)
    metrics = mapping(content.get("metrics"))
    return {
        "id": name,
        **{key: _as(kind, content.get(key)) for key, kind in _FIELDS.items()},
        "metrics": [
            {"name": str(metric), "value": _as(float, value)} for metric, value in metrics.items()
        ],
        "record": json.dumps(content, ensure_ascii=False),
    }


_FIELDS: Final[Mapping[str, type]] = {
    **{"trial": str, "state": str, "rank": int, "score": float, "potential": float},
    **{"seed": int, "steps": int, "stopped_at": int, "parent": str, "lineage": str},
    **{"drafted_in": int, "edited_from": str},
    **{"instruction": str, "mask": str, "finished_as": str},
    **{"instruction_suffix": str, "nfe": int, "seconds": float},
    **{"search": str, "key": str, "model_version": str},
    **{"image": str, "file": str, "picture": str},
}
"""What a Parquet file says of a candidate besides its metrics; `record` holds all."""


def _as(kind: type, value: Any) -> Any:
    """The value, if it is of this kind; a task's data may hold anything."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        return None
    return value if kind is not int or value in _INT64 else None


def _schema() -> Any:
    pa = arrow()
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    metric = pa.struct([("name", pa.string()), ("value", pa.float64())])
    candidate = pa.struct(
        [
            ("id", pa.string()),
            *((name, types[kind]) for name, kind in _FIELDS.items()),
            ("metrics", pa.list_(metric)),
            ("record", pa.string()),
        ]
    )
    return pa.schema(
        [
            *((name, pa.int64()) for name in ("task", "annotation", "by")),
            ("updated_at", pa.string()),
            *((name, pa.string()) for name in _TEXTS),
            *((name, pa.list_(pa.string())) for name in ("ranked", "rejected", "problems")),
            ("pictures_known", pa.bool_()),
            ("candidates", pa.list_(candidate)),
        ]
    )


def columns(kind: Format) -> Sequence[str]:
    """The names of a table's columns."""
    return list(_flat({})) if kind == "csv" else [field.name for field in _schema()]
