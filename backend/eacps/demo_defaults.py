"""Warns about defaults made for the demo that are used with another editor."""

from __future__ import annotations

from pathlib import Path

from eacps import plugins
from eacps.settings import DEMO_PACK, Settings

_CLIP_METRICS = frozenset({"pf", "pf_dir", "cons"})
_ANSWERS = frozenset({"satisfied", "preserved", "intact", "verified"})


def demo_defaults_in_use(settings: Settings) -> tuple[str, ...]:
    """A warning in one sentence, or nothing.

    The demo's judges know only cartoon bears; its steps and guidance suit only its own editor.
    """
    if _is_in_demo_pack(settings.editor):
        return ()
    parts, variables = [], []
    if _is_in_demo_pack(settings.clip) and _uses_clip(settings):
        parts.append("a CLIP that knows only cartoon bears")
        variables.append("EACPS_CLIP")
    if any(map(_is_in_demo_pack, settings.verifiers)) and _uses_verifier(settings):
        parts.append("a verifier that knows only cartoon bears")
        variables.append("EACPS_VERIFIER")
    if not plugins.is_reference(settings.editor):
        for name, words in (("steps", "steps"), ("guidance", "guidance")):
            if name not in settings.model_fields_set:
                parts.append(f"{words} {getattr(settings, name):g}")
                variables.append(f"EACPS_{name.upper()}")
    if not parts:
        return ()
    return (f"The demo's defaults are in use: {', '.join(parts)}. Set {', '.join(variables)}.",)


def _is_in_demo_pack(name: str) -> bool:
    return Path(name).is_relative_to(DEMO_PACK)


def _uses_clip(settings: Settings) -> bool:
    if settings.potential == "eacps":
        return True
    asked = settings.weights.keys()
    return bool(asked & _CLIP_METRICS) or ("lpips" in asked and settings.lpips_trunk == "clip")


def _uses_verifier(settings: Settings) -> bool:
    return settings.potential == "weighted" and bool(settings.weights.keys() & _ANSWERS)
