"""All that differs between label-studio-ml 1.0.9 and 2.x, and between it and what we need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from flask import Flask

_HEAVY = ("torch", "torch.multiprocessing")
_VIEWS = ("_predict", "_setup", "webhook", "health")
_DEPRECATED_VIEWS = ("_train", "_is_training", "get_version", "metrics")
View = Callable[..., Any]


@contextmanager
def without_torch() -> Iterator[None]:
    """Imports inside see no torch.

    label_studio_ml.model tries to import it and is content without; it would cost every web
    process half a gigabyte.
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


def model_base() -> type[Any]:
    """label-studio-ml's LabelStudioMLBase, imported without torch."""
    with without_torch():
        base: type[Any] = importlib.import_module("label_studio_ml.model").LabelStudioMLBase
    return base


def new_app(model_class: type[Any], views: dict[str, View]) -> Flask:
    """label-studio-ml's Flask app serving `model_class`, with our view functions in place.

    `views` must name `_predict`, `_setup`, `webhook` and `health`: the names that 1.0.9 and 2.x
    share. Further views of 1.0.9 that only make sense with its training jobs answer politely.
    """
    api = _fresh_api()
    app: Flask = api.init_app(model_class=model_class)
    # Its hooks log every header and body, with the tokens in them, and read bodies of any kind.
    app.before_request_funcs.clear()
    app.after_request_funcs.clear()
    for name in _VIEWS:
        app.view_functions[name] = views[name]
    for name in _DEPRECATED_VIEWS:
        if name in app.view_functions:
            app.view_functions[name] = views["nothing"]
    return app


def _fresh_api() -> ModuleType:
    # The app is a global of that module; a second app in one process needs a second one.
    with without_torch():
        loaded = "label_studio_ml.api" in sys.modules
        api = importlib.import_module("label_studio_ml.api")
        return importlib.reload(api) if loaded else api
