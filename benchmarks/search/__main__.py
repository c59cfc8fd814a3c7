"""Compare every search under every judge: `python -m benchmarks.search` (or `--quick`).

Renders are kept under --cache as they are made: stop it at any time, and the same command goes on.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.engine import machine
from benchmarks.search.crew import measured
from benchmarks.search.measure import Assignment, Bench, Setup
from benchmarks.search.problems import PARTS, Part
from benchmarks.search.report import report
from benchmarks.search.rows import rows_of
from eacps.demo.tasks import LEVELS, MEDIUM
from eacps.errors import EacpsError

SIZES: Final[dict[tuple[str, Part], tuple[int, int]]] = {
    ("medium", "held-in"): (100, 20),
    ("medium", "new"): (300, 20),
    ("easy", "new"): (40, 0),
    ("hard", "new"): (40, 0),
}
"""The number of tasks, and how many of them are also searched with children."""
QUICK: Final[dict[tuple[str, Part], tuple[int, int]]] = {
    ("medium", "held-in"): (6, 2),
    ("medium", "new"): (6, 2),
}
NAME: Final = "search"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, and write rows and report."""
    options = _options(arguments)
    target: Path = options.out / f"{options.name}.jsonl"
    if options.report_only:
        report(_read(target), options.out, options.name)
        return
    setup = Setup(options.cache, tuple(options.strategies))
    work = list(_assignments(options))
    try:
        bench = Bench(setup)
        with _alone(options.cache):
            prices = bench.prices(work[0], options.threads)
            done = measured(work, bench, setup, options.workers, options.threads)
    except EacpsError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("Stopped. Run the same command again to resume.") from None
    header = {**machine(options.threads), "command": _command(arguments), "prices": prices}
    rows = [header, *rows_of(work, done, bench)]
    options.out.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    report(rows, options.out, options.name)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Two runs would number their renders alike."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"Another run uses {cache}. Wait for it, or set --cache.") from None
        yield


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="for the results")
    parser.add_argument("--name", default=None, help="the results' file name (search, or quick)")
    parser.add_argument("--cache", type=Path, default=Path("out/bench-search"))
    parser.add_argument("--quick", action="store_true", help="a dozen tasks, a few minutes")
    parser.add_argument("--tasks", type=int, help="this many tasks of each set instead")
    parser.add_argument("--held-in", type=int, help="this many tasks for choosing settings instead")
    parser.add_argument("--local-tasks", type=int, help="of which with children, instead")
    parser.add_argument(
        "--levels",
        type=_words,
        default=[MEDIUM.name],
        help=f"of {', '.join(level.name for level in LEVELS)}",
    )
    parser.add_argument("--parts", type=_words, default=list(PARTS))
    parser.add_argument(
        "--strategies",
        type=_words,
        default=[],
        help="only these, and best_of_n: auto,halving,my_file.py:MyStrategy",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in each")
    parser.add_argument("--report-only", action="store_true", help="from the rows that are there")
    options = parser.parse_args(arguments)
    options.name = options.name or (f"{NAME}-quick" if options.quick else NAME)
    if options.quick and options.out == Path("docs/results"):
        options.out = Path("out")
    return options


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _command(arguments: Sequence[str] | None) -> str:
    given = sys.argv[1:] if arguments is None else list(arguments)
    return " ".join(["python -m benchmarks.search", *(Path(word).name for word in given)])


def _assignments(options: argparse.Namespace) -> Iterator[Assignment]:
    for (level, part), (count, local) in (QUICK if options.quick else SIZES).items():
        if level not in options.levels or part not in options.parts:
            continue
        tasks = count if options.tasks is None else options.tasks
        if part == "held-in" and options.held_in is not None:
            tasks = options.held_in
        deep = local if options.local_tasks is None else options.local_tasks
        for index in range(tasks):
            yield Assignment(level, part, index, tasks, index < deep)


def _read(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text().splitlines()]


if __name__ == "__main__":
    main()
