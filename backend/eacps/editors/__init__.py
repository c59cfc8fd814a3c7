"""Editors behind one small protocol. Importing this does not load torch."""

from __future__ import annotations

from eacps.editors.protocol import Editor, EditSession, Render, States, Tick, no_tick
from eacps.editors.registry import EDITORS
from eacps.plugins import Context, loaded, options_for
from eacps.settings import Settings

__all__ = ["EditSession", "Editor", "Render", "States", "Tick", "no_tick", "open_editor"]


def open_editor(settings: Settings, device: str) -> Editor:
    """Load EACPS_EDITOR onto a device: a plug-in editor, or a pipeline from a folder or hub id."""
    name = settings.editor
    if EDITORS.knows(name):
        plugin = EDITORS.get(name)
        options = options_for(plugin, name, EDITORS.kind, settings)
        editor: Editor = loaded(plugin, Context(settings, device, options))
        return editor
    from eacps.editors.diffusers.editor import DiffusersEditor
    from eacps.editors.diffusers.loading import load_family

    return DiffusersEditor(load_family(settings, device), settings)
