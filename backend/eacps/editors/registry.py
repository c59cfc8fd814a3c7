"""Editors by name, and editor families by the diffusers pipeline class that they drive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from eacps.errors import EditorError
from eacps.plugins import EDITORS as GROUP
from eacps.plugins import FAMILIES as FAMILY_GROUP
from eacps.plugins import Registry, lacks

if TYPE_CHECKING:
    from eacps.editors.diffusers.family import Family

SETTING: Final = "EACPS_EDITOR"


class EditorClass(Protocol):
    """A class with `load(context)`, or one that is called with its options or without arguments."""


def _no_editor(editor: Any) -> str:
    if hasattr(editor, "noise_shape"):
        return f"is an editor family: its entry point belongs in the group {FAMILY_GROUP}"
    return "" if hasattr(editor, "load") else lacks(editor, "open")


EDITORS: Final = Registry[EditorClass](
    "editor",
    group=GROUP,
    setting=SETTING,
    built_ins={},
    problem=_no_editor,
)
"""Plug-in editors. Any other value of EACPS_EDITOR is a diffusers pipeline: a folder or hub id."""

FAMILIES: Final = Registry["type[Family]"](
    "editor family",
    group=FAMILY_GROUP,
    setting=SETTING,
    built_ins={
        "StableDiffusionInstructPix2PixPipeline": (
            "eacps.editors.families.instruct_pix2pix:InstructPix2Pix"
        ),
        "QwenImageEditPipeline": "eacps.editors.families.qwen_edit:QwenEdit",
        "QwenImageEditPlusPipeline": "eacps.editors.families.qwen_edit:QwenEditPlus",
        "FluxKontextPipeline": "eacps.editors.families.flux_kontext:FluxKontext",
        "Flux2KleinPipeline": "eacps.editors.families.flux2_klein:Flux2Klein",
    },
    problem=lambda family: lacks(family, "encode", "arguments", "noise_shape", "title"),
)
"""Families by pipeline class."""


def family_of(pipeline_class: str) -> type[Family]:
    """The family that drives a pipeline class; raises EditorError if there is none."""
    if pipeline_class not in FAMILIES.names():
        raise EditorError(
            f"EACPS_EDITOR is a {pipeline_class}, which no editor family supports.",
            hint=f"Point EACPS_EDITOR at one of: {', '.join(FAMILIES.names())}; or add a family: "
            f"a class that an installed package names in the entry points {FAMILY_GROUP!r}.",
        )
    return FAMILIES.get(pipeline_class)
