"""Compatibility with label-studio-ml 1.0.9 and 2.x, and with no label-studio-ml at all.

If the package is installed, we use its base class, so that `model.py` looks familiar to users of
Label Studio, and its Flask app. Otherwise our own routes serve the same requests.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from flask import Flask

_HEAVY = ("torch", "torch.multiprocessing")
_VIEWS = ("_predict", "_setup", "webhook", "health")
_ROUTES = (
    ("/", "health", "GET"),
    ("/health", "health", "GET"),
    ("/metrics", "metrics", "GET"),
    ("/predict", "_predict", "POST"),
    ("/setup", "_setup", "POST"),
    ("/webhook", "webhook", "POST"),
    ("/train", "nothing", "POST"),
    ("/is_training", "nothing", "GET"),
    ("/versions", "nothing", "POST"),
)
_DEPRECATED_VIEWS = ("_train", "_is_training", "get_version")
View = Callable[..., Any]


@contextmanager
def without_torch() -> Iterator[None]:
    """Make imports of torch fail inside the block.

    label_studio_ml.model imports torch optionally, which would cost every web process half a
    gigabyte.
    """
    hidden = {name: sys.modules[name] for name in _HEAVY if name in sys.modules}
    try:
        for name in _HEAVY:
            # None in sys.modules makes the import statement raise ImportError.
            sys.modules[name] = None  # type: ignore[assignment]
        yield
    finally:
        for name in _HEAVY:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


@contextmanager
def without_cache() -> Iterator[None]:
    """Let label-studio-ml 2.x open its cache in a folder that is deleted after the block.

    Its import creates a database in the working folder, which may not be writable. Nothing that we
    use of it reads or writes that database.
    """
    if "MODEL_DIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="eacps-label-studio-ml-") as folder:
        os.environ["MODEL_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["MODEL_DIR"]


def is_installed() -> bool:
    """Whether label-studio-ml is installed."""
    return importlib.util.find_spec("label_studio_ml") is not None


def model_base() -> type[Any]:
    """label-studio-ml's LabelStudioMLBase, imported without torch, or `object` without it."""
    if not is_installed():
        return object
    with without_torch(), without_cache():
        base: type[Any] = importlib.import_module("label_studio_ml.model").LabelStudioMLBase
    return base


def new_app(model_class: type[Any], views: dict[str, View]) -> Flask:
    """The Flask app for `model_class`: that of label-studio-ml with our view functions, or our own
    with the same routes.

    `views` needs `_predict`, `_setup`, `webhook` and `health`, which 1.0.9 and 2.x share,
    `metrics`, which replaces an empty page, and `nothing`, which replaces views of 1.0.9 that only
    make sense with its training jobs.
    """
    if not is_installed():
        return _own_app(views)
    api = _fresh_api()
    app: Flask = api.init_app(model_class=model_class)
    # Its hooks log all headers and bodies, including tokens.
    app.before_request_funcs.clear()
    app.after_request_funcs.clear()
    for name in _VIEWS:
        app.view_functions[name] = views[name]
    if "metrics" not in app.view_functions:
        app.add_url_rule("/metrics", "metrics")
    app.view_functions["metrics"] = views["metrics"]
    for name in _DEPRECATED_VIEWS:
        if name in app.view_functions:
            app.view_functions[name] = views["nothing"]
    return app


def _own_app(views: dict[str, View]) -> Flask:
    app = Flask("eacps")
    for path, name, method in _ROUTES:
        app.add_url_rule(path, name, views[name], methods=[method])
    return app


def _fresh_api() -> ModuleType:
    # The app is a global of that module, so reload it for a second app in one process.
    with without_torch(), without_cache():
        loaded = "label_studio_ml.api" in sys.modules
        api = importlib.import_module("label_studio_ml.api")
        return importlib.reload(api) if loaded else api
