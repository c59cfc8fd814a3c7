"""What earlier versions stored is read as it was meant, and written as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eacps.domain import EditTask, SearchResult, from_json, to_json
from eacps.editors.diffusers.states import from_bytes
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.contract import Job
from eacps.labelstudio.tasks.origins import read_origin
from tests.unit.stored import examples

STORED = Path(__file__).parents[2] / "fixtures" / "stored" / "0.1" / "formats"


def stored(name: str) -> Any:
    return json.loads((STORED / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(examples.texts()))
def test_json_is_written_as_it_was(name: str) -> None:
    assert examples.texts()[name] == stored(name)


def test_no_example_is_forgotten(tmp_path: Path) -> None:
    made = {*examples.texts(), "run.json", "state.safetensors", "state-owner.json"}
    assert {path.name for path in STORED.iterdir()} == made


def test_results_and_tasks_are_read_as_they_were_meant() -> None:
    assert from_json(SearchResult, stored("search-result.json")) == examples.search_result()
    assert from_json(SearchResult, stored("face-swap-result.json")) == examples.swap_result()
    assert from_json(EditTask, stored("edit-task.json")) == examples.edit_task()
    row = JsonSerializer().deserialize(stored("database-row.json"))
    assert from_json(SearchResult, row["result"]) == examples.search_result()


def test_jobs_and_origins_are_read_as_they_were_meant() -> None:
    job = from_json(Job, stored("job.json"))
    assert job == examples.job()
    assert read_origin(job.origin) == examples.origin()
    assert read_origin(job.origin).job_id == job.id


def test_a_run_writes_the_report_and_the_files_that_it_wrote(tmp_path: Path) -> None:
    assert to_json(dict(examples.run_report(tmp_path))) == stored("run.json")


def test_a_paused_render_is_written_and_read_as_it_was() -> None:
    content = (STORED / "state.safetensors").read_bytes()
    assert examples.paused_state() == content
    state = from_bytes(content, "an owner")
    assert state.step == 4
    assert torch.equal(state.latents, torch.arange(24.0).reshape(2, 3, 4) / 7)
    assert state.generator is not None
    assert state.generator.tolist() == list(range(16))


def test_a_paused_render_still_belongs_to_whom_it_belonged() -> None:
    assert examples.state_owner() == stored("state-owner.json")
