"""Loads the settings and configures logging for a command."""

from __future__ import annotations

from eacps import log
from eacps.errors import SettingsError
from eacps.files import require_writable
from eacps.settings import Settings, load_settings


def load_quietly() -> Settings:
    """Load settings for a short command, logging only errors."""
    log.configure("ERROR", process="eacps")
    return load_settings()


def load_for_process(name: str) -> Settings:
    """Load settings for a long-running process; its log lines contain this name."""
    settings = load_settings()
    log.configure(settings.log_level, settings.log_format, name)
    try:
        require_writable(settings.data_dir)
    except OSError as error:
        raise SettingsError(
            f"{settings.data_dir} cannot be written: {error.strerror}.",
            hint="Set EACPS_DATA_DIR to a folder that this user may write to.",
        ) from None
    return settings
