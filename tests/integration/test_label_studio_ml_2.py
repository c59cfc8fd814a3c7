"""The real label-studio-ml 2.x, which is not on the package index, where it is installed.

EACPS_TEST_LABEL_STUDIO_ML_2 names the Python of a virtual environment with it and with what
requirements.txt lists.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.label_studio_server import LabelStudioServer
from tests.stack import Backend, bear_tasks, connected_project, wait_until

PYTHON = os.environ.get("EACPS_TEST_LABEL_STUDIO_ML_2", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="EACPS_TEST_LABEL_STUDIO_ML_2 is not set")


@pytest.fixture(scope="module")
def backend_2(server: LabelStudioServer) -> Iterator[Backend]:
    with Backend(server, PYTHON) as running:
        yield running


def test_it_is_version_2(backend_2: Backend) -> None:
    program = "import label_studio_ml as ml; print(ml.__version__)"
    found = subprocess.run(
        [PYTHON, "-c", program], cwd=backend_2.folder, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("2.")
    assert not (backend_2.folder / "cache.db").exists()


def test_imports_openings_and_retrievals_are_answered(
    server: LabelStudioServer, backend_2: Backend
) -> None:
    project = connected_project(server, backend_2)
    tasks = server.import_tasks(project, bear_tasks(server, project, 2))
    wait_until(lambda: all(server.predictions(task) for task in tasks), backend_2.log)
    versions = {row["model_version"] for task in tasks for row in server.predictions(task)}
    assert len(versions) == 1
    # As Label Studio sends them, with its label config, when tasks are opened or retrieved.
    config = server.call("GET", f"/api/projects/{project}/")["label_config"]
    for asked in (tasks[:1], tasks):
        content = [server.task(task) for task in asked]
        answer = backend_2.predict(content, project=f"{project}.1700000000", label_config=config)
        assert answer.status_code == 200, backend_2.log()
        assert len(answer.json()["results"]) == len(asked)
    (backend,) = server.call("GET", f"/api/ml/?project={project}")
    assert backend["state"] == "CO"
    retrieved = server.call(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
        json={"selectedItems": {"all": False, "included": tasks}},
    )
    assert retrieved["processed_items"] == len(tasks)
