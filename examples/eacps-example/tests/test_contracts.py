"""Each plug-in keeps the contract of its kind: this is all that a plug-in's own tests need."""

import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from eacps_example.judge_server import Judge
from PIL import Image

from eacps import testing
from eacps.settings import Settings


@pytest.fixture
def judge():
    """The judge's server, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_sharpness():
    testing.check_scorer("sharpness")


def test_http_judge(judge):
    testing.check_verifier("http_judge", Settings(plugin_options={"http_judge": {"url": judge}}))


def test_patience():
    testing.check_strategy("patience", {"most": 9, "patience": 2})


def test_tint():
    testing.check_editor("tint")


def test_oval():
    skimage = pytest.importorskip("skimage")
    scene = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png")
    testing.check_face_engine("oval", scene, scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
