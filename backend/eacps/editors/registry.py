"""Which family drives which pipeline class; extended by other packages."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from eacps.editors.diffusers.family import Family
from eacps.errors import EditorError

ENTRY_POINT_GROUP: Final = "eacps.editors"
FAMILIES: Final[dict[str, str]] = {
    "StableDiffusionInstructPix2PixPipeline": "instruct_pix2pix:InstructPix2Pix",
    "QwenImageEditPipeline": "qwen_edit:QwenEdit",
    "QwenImageEditPlusPipeline": "qwen_edit:QwenEditPlus",
    "FluxKontextPipeline": "flux_kontext:FluxKontext",
    "Flux2KleinPipeline": "flux2_klein:Flux2Klein",
}


def supported() -> tuple[str, ...]:
    """Every pipeline class that has a family: the built-in ones first."""
    others = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return (*FAMILIES, *sorted(others - FAMILIES.keys()))


def family_of(pipeline_class: str) -> type[Family]:
    """The family that drives a pipeline class; raises EditorError when there is none."""
    if pipeline_class in FAMILIES:
        module, name = FAMILIES[pipeline_class].split(":")
        family: type[Family] = getattr(import_module(f"eacps.editors.families.{module}"), name)
        return family
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == pipeline_class:
            return _loaded(point.name, point.load)
    raise EditorError(
        f"EACPS_EDITOR names a {pipeline_class}, which no editor family here drives.",
        hint=f"Point EACPS_EDITOR at one of: {', '.join(supported())}; or add a family.",
    )


def _loaded(name: str, load: object) -> type[Family]:
    try:
        family = load() if callable(load) else None
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise EditorError(
            f"The editor family for {name} could not be loaded: {error!r}.",
            hint="Repair or remove the package that brings it.",
        ) from error
    if not (isinstance(family, type) and issubclass(family, Family)):
        raise EditorError(
            f"The editor family for {name} is not a subclass of Family "
            "(eacps.editors.diffusers.family).",
            hint="Repair or remove the package that brings it.",
        )
    return family
