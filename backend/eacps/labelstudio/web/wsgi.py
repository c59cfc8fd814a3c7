"""The entry point for gunicorn."""

from __future__ import annotations

from typing import Any

from flask import Flask

from eacps import log, tracing
from eacps.labelstudio.web.app import create_app
from eacps.labelstudio.web.ml_model import BackendModel
from eacps.settings import load_settings


def web_process(model_class: type[Any] = BackendModel) -> Flask:
    """Configure logging and create the app, with settings from the environment."""
    settings = load_settings()
    log.configure(settings.log_level, settings.log_format, process="web")
    tracing.start("web")
    return create_app(settings, model_class)
