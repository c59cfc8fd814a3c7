"""Measures many tasks, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from rich.console import Console
from rich.progress import Progress

from benchmarks.search.measure import Assignment, Bench, Measured, Setup

_bench: Bench


def measured(
    work: Sequence[Assignment], bench: Bench, setup: Setup, workers: int, threads: int
) -> list[Measured]:
    """The results of all tasks, in order."""
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("tasks", total=len(work))
        if workers <= 1:
            _use(threads)
            done = []
            for each in work:
                done.append(bench.measured(each))
                progress.update(bar, advance=1, description=f"{each.level} {each.part}")
            return done
        pool = ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_begin, initargs=(setup, threads)
        )
        try:
            futures = [pool.submit(_measured, each) for each in work]
            for future in as_completed(futures):
                future.result()
                progress.advance(bar)
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(setup: Setup, threads: int) -> None:
    global _bench  # noqa: PLW0603 - a worker process has one
    _use(threads)
    _bench = Bench(setup)


def _measured(work: Assignment) -> Measured:
    return _bench.measured(work)


def _use(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
