"""Devices: GPUs that are not there are refused; what a batch system hands out is respected."""

from __future__ import annotations

from pathlib import Path

import pytest

from eacps.editors.devices import checked, visible_name
from eacps.errors import SettingsError


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    lines = "\n".join(f"echo 'GPU {number}: Some GPU (UUID: GPU-{number})'" for number in range(4))
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.usefixtures("four_gpus")
def test_auto_takes_every_gpu() -> None:
    assert checked(("auto",)) == ("cuda:0", "cuda:1", "cuda:2", "cuda:3")


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize("device", ["cuda:4", "cuda:7"])
def test_a_gpu_beyond_the_last_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match=r"There is no cuda:\d: .* 4 GPUs .cuda:0 to 3."):
        checked(("cuda:0", device))


@pytest.mark.usefixtures("four_gpus")
def test_only_the_gpus_that_were_handed_out_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert checked(("auto",)) == ("cuda:0", "cuda:1")
    assert [visible_name("cuda:0"), visible_name("cuda:1")] == ["2", "3"]
    with pytest.raises(SettingsError, match="2 GPUs"):
        checked(("cuda:2",))


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize("nothing", ["", "-1"])
def test_hidden_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, nothing: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
    assert "cuda:0" not in checked(("auto",))


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cuda:-1", "CPU", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="EACPS_DEVICES"):
        checked((device,))


def test_several_workers_may_share_the_cpu() -> None:
    assert checked(("cpu", "cpu")) == ("cpu", "cpu")
