"""Loading the settings, and setting up the log, at the start of a command."""

from __future__ import annotations

from eacps import log
from eacps.settings import Settings, load_settings


def load_quietly() -> Settings:
    """Settings for a command that only reads: warnings of libraries would disturb its output."""
    log.configure("ERROR", process="eacps")
    return load_settings()


def load_for_process(name: str) -> Settings:
    """Settings for a process that keeps running; its log lines carry this name."""
    settings = load_settings()
    log.configure(settings.log_level, settings.log_format, name)
    return settings
