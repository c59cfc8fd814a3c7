"""The web server's process: its address, what it serves, and a port that is taken."""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from eacps import plugins
from eacps.errors import SettingsError
from eacps.labelstudio.web.process import require_free_port, web_server
from eacps.settings import Settings
from tests.installed import install


def test_gunicorn_binds_the_address_of_the_settings() -> None:
    process = web_server(Settings(_env_file=None, host="0.0.0.0", port=8123))
    assert process.name == "web"
    assert process.command[process.command.index("--bind") + 1] == "0.0.0.0:8123"


def test_what_gunicorn_is_told_to_load_exists() -> None:
    command = web_server(Settings(_env_file=None)).command
    config = command[command.index("--config") + 1].removeprefix("python:")
    assert importlib.import_module(config)
    target = re.fullmatch(r"([\w.]+):(\w+)\(\)", command[-1])
    assert target, command[-1]
    assert callable(getattr(importlib.import_module(target[1]), target[2]))


def test_a_taken_port_is_refused_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(_env_file=None, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="EACPS_PORT"):
            require_free_port(settings)
    require_free_port(settings)


ASKED = """
import json, sys
from eacps.labelstudio.web.wsgi import web_process
web = web_process().test_client()
task = {"id": 1, "data": {"image": "https://pictures.example/bear.png", "prompt": "add a hat"}}
answers = [web.get("/health"), web.get("/status"), web.get("/status.json")]
answers.append(web.post("/predict", json={"tasks": [task]}))
told = {"codes": [answer.status_code for answer in answers], "health": answers[0].get_json()}
told["heavy"] = sorted({"torch", "numpy", "diffusers", "transformers"} & sys.modules.keys())
print(json.dumps(told))
"""
PLUGIN = "import pathlib\npathlib.Path({marker!r}).touch()\nclass Own:\n    version = {version}\n"


def test_the_web_process_runs_no_plugin_and_yet_knows_which_one_is_meant(tmp_path: Path) -> None:
    marker, file = tmp_path / "imported", tmp_path / "mine.py"
    points = {
        group: {"own": "own_tools:Own"}
        for group in (plugins.SCORERS, plugins.FAMILIES, plugins.VERIFIERS, plugins.STRATEGIES)
    }
    source = PLUGIN.format(marker=str(marker), version=1)
    install(tmp_path / "site", "own", modules={"own_tools": source}, points=points)
    own, installed = f"{file}:Own", "own"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)]),
        "EACPS_DATA_DIR": str(tmp_path / "data"),
        "EACPS_PREDICT_WAIT_WITHOUT_LABEL_STUDIO": "0",
        "EACPS_STRATEGY": installed,
        "EACPS_VERIFIER": f"{own},{installed}",
        "EACPS_SCORERS": own,
        "EACPS_EDITOR": own,
        "EACPS_FACE_ENGINE": own,
        "EACPS_PLUGIN_OPTIONS": json.dumps({"Own": {"token": "$NOT_SET_IN_THE_WEB_PROCESS"}}),
    }
    versions = set()
    for version in (1, 2):
        file.write_text(PLUGIN.format(marker=str(marker), version=version))
        done = subprocess.run(
            [sys.executable, "-c", ASKED], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["codes"] == [200] * 4, done.stderr
        assert told["heavy"] == []
        assert not marker.exists(), done.stderr
        versions.add(told["health"]["model_version"])
    assert len(versions) == 2
