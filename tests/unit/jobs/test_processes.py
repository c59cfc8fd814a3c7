"""Which processes are started: one orchestrator, one worker per device, each with its share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eacps.errors import SettingsError
from eacps.jobs.processes import device_workers, work_processes
from eacps.settings import Settings


@pytest.fixture(autouse=True)
def no_gpus_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Some GPU'\necho 'GPU 1: Some GPU'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def settings_for(*devices: str, threads: int = 0) -> Settings:
    return Settings(_env_file=None, devices=devices, threads=threads)


def test_the_orchestrator_comes_first_and_every_device_has_a_worker() -> None:
    processes = work_processes(settings_for("cpu", "cpu"))
    assert [process.name for process in processes] == ["orchestrator", "worker 0", "worker 1"]
    assert processes[0].command[-2:] == ["worker", "--orchestrator"]
    assert processes[2].command[-4:] == ["--slot", "1", "--device", "cpu"]


@pytest.mark.usefixtures("two_gpus")
def test_a_worker_sees_its_gpu_alone() -> None:
    workers = device_workers(settings_for("cuda:0", "cuda:1"))
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["0", "1"]
    assert [worker.command[-1] for worker in workers] == ["cuda:0", "cuda:0"]


@pytest.mark.usefixtures("two_gpus")
def test_a_worker_sees_the_gpu_that_was_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    workers = device_workers(settings_for("auto"))
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["5", "7"]


def test_a_worker_on_the_cpu_leaves_the_choice_of_gpus_alone() -> None:
    (worker,) = device_workers(settings_for("cpu"))
    assert "CUDA_VISIBLE_DEVICES" not in worker.environment


@pytest.mark.parametrize(
    ("cores", "threads", "expected"), [(8, 0, "4"), (1, 0, "1"), (None, 0, "1"), (8, 3, "3")]
)
def test_workers_share_the_cores_unless_the_threads_are_set(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int, expected: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    workers = device_workers(settings_for("cpu", "cpu", threads=threads))
    share = {"OMP_NUM_THREADS": expected, "MKL_NUM_THREADS": expected}
    assert [worker.environment for worker in workers] == [share, share]


def test_a_device_that_is_not_there_is_refused_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="Unknown device 'gpu'"):
        work_processes(settings_for("gpu"))
