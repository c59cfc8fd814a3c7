"""Editors: diffusers pipelines behind one small face. Importing this loads no torch."""

from __future__ import annotations

from eacps.editors.protocol import Editor, EditSession, Render, States, Tick, no_tick
from eacps.settings import Settings

__all__ = ["EditSession", "Editor", "Render", "States", "Tick", "no_tick", "open_editor"]


def open_editor(settings: Settings, device: str) -> Editor:
    """Load the pipeline that the settings name onto a device: a folder, or a hub id."""
    from eacps.editors.diffusers.editor import DiffusersEditor
    from eacps.editors.diffusers.loading import load_family

    return DiffusersEditor(load_family(settings, device), settings)
