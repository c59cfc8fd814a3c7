"""What earlier versions stored is read as it was meant, and what is written now is on record.

`tests/fixtures/stored/VERSION/formats` holds what each version wrote. A new field is added by a
new folder (`python -m tests.unit.stored.write VERSION`); the older ones are never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eacps.artifacts import ArtifactStore
from eacps.domain import EditTask, SearchResult, from_json, to_json
from eacps.editors.diffusers.states import from_bytes
from eacps.jobs.codec import JsonSerializer
from eacps.jobs.contract import Job
from eacps.jobs.large_values import with_large_values
from eacps.labelstudio.cards.searches import searches_in
from eacps.labelstudio.tasks.origins import read_origin
from tests.unit.stored import examples

STORED = Path(__file__).parents[2] / "fixtures" / "stored"
FIRST, *LATER = VERSIONS = sorted(path.name for path in STORED.iterdir())
NEWEST = VERSIONS[-1]
ADDED = {
    "job-with-large-values.json": "0.3",
    "job-of-a-panel.json": "0.5",
    "steered-task-data.json": "0.5",
}
"""Since which version there is what did not exist before."""
every_version = pytest.mark.parametrize("version", VERSIONS)


def stored(version: str, name: str) -> Any:
    return json.loads((STORED / version / "formats" / name).read_text(encoding="utf-8"))


def expected(version: str, result: SearchResult) -> SearchResult:
    return examples.as_of_01(result) if version == FIRST else result


@pytest.mark.parametrize("name", sorted(examples.texts()))
def test_json_is_written_as_it_is_on_record(name: str) -> None:
    assert examples.texts()[name] == stored(NEWEST, name)


@every_version
def test_no_example_is_forgotten(version: str) -> None:
    made = {*examples.texts(), "run.json", "state.safetensors", "state-owner.json"}
    made -= {name for name, since in ADDED.items() if version < since}
    assert {path.name for path in (STORED / version / "formats").iterdir()} == made


@every_version
def test_names_that_stand_for_content_never_change(version: str) -> None:
    known = stored(version, "identities.json")
    assert {name: examples.identities()[name] for name in known} == known
    assert version != NEWEST or known == examples.identities()


@every_version
def test_results_and_tasks_are_read_as_they_were_meant(version: str) -> None:
    for name, result in (
        ("search-result.json", examples.search_result()),
        ("face-swap-result.json", examples.swap_result()),
    ):
        meant = expected(version, result)
        read = from_json(SearchResult, stored(version, name))
        assert read == meant
        assert read.task.key == result.task.key
        assert from_json(EditTask, to_json(read.task)) == meant.task
    row = JsonSerializer().deserialize(stored(version, "database-row.json"))
    meant = expected(version, examples.search_result())
    assert from_json(SearchResult, row["result"]) == meant


@every_version
def test_jobs_and_origins_are_read_as_they_were_meant(version: str) -> None:
    job = from_json(Job, stored(version, "job.json"))
    assert job == examples.job()
    assert read_origin(job.origin) == examples.origin()
    assert read_origin(job.origin).job_id == job.id


@every_version
def test_requests_of_panels_are_read_as_they_were_meant(version: str) -> None:
    if version < ADDED["job-of-a-panel.json"]:
        return
    job = from_json(Job, stored(version, "job-of-a-panel.json"))
    assert job == examples.steered_job()
    assert read_origin(job.origin) == examples.steered_origin()
    data = stored(version, "steered-task-data.json")
    assert {facts["number"] for facts in searches_in(data).values()} == {1, 2}
    assert data["eacps"]["job"] == examples.origin().job_id


def test_large_values_of_a_job_are_read_as_they_were_meant(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    examples.job_row(files)
    store = ArtifactStore(f"file://{tmp_path}")
    for name, content in files.items():
        assert store.put(content, "json") == name
    meant = examples.job_with_large_values()
    for version in VERSIONS:
        if version < ADDED["job-with-large-values.json"]:
            continue
        job = from_json(Job, stored(version, "job-with-large-values.json"))
        assert job.id == meant.id
        assert len(json.dumps(to_json(job))) < 2000
        read = with_large_values(job, store)
        assert read == meant
        assert read_origin(read.origin).job_id == job.id


def test_a_run_writes_the_report_and_the_files_that_are_on_record(tmp_path: Path) -> None:
    assert to_json(dict(examples.run_report(tmp_path))) == stored(NEWEST, "run.json")


@every_version
def test_a_paused_render_is_written_and_read_as_it_was(version: str) -> None:
    content = (STORED / version / "formats" / "state.safetensors").read_bytes()
    assert examples.paused_state() == content
    state = from_bytes(content, "an owner")
    assert state.step == 4
    assert torch.equal(state.latents, torch.arange(24.0).reshape(2, 3, 4) / 7)
    assert state.generator is not None
    assert state.generator.tolist() == list(range(16))


@every_version
def test_a_paused_render_still_belongs_to_whom_it_belonged(version: str) -> None:
    assert stored(version, "state-owner.json") in examples.state_owners()
