"""What of the demo is in use although the editor is not the demo's: it is said, never silent."""

from __future__ import annotations

from pathlib import Path

from eacps import plugins
from eacps.settings import DEMO_PACK, Settings

_CLIP_METRICS = frozenset({"pf", "pf_dir", "cons"})
_ANSWERS = frozenset({"satisfied", "preserved", "intact", "verified"})


def demo_defaults_in_use(settings: Settings) -> tuple[str, ...]:
    """One sentence for people, or nothing: the demo's judges know only cartoon bears, and its
    steps and guidance suit only its own editor."""
    if _is_demos(settings.editor):
        return ()
    parts, variables = [], []
    if _is_demos(settings.clip) and _asks_clip(settings):
        parts.append("a CLIP that knows only cartoon bears")
        variables.append("EACPS_CLIP")
    if any(map(_is_demos, settings.verifiers)) and _asks_verifier(settings):
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


def _is_demos(name: str) -> bool:
    return Path(name).is_relative_to(DEMO_PACK)


def _asks_clip(settings: Settings) -> bool:
    if settings.potential == "eacps":
        return True
    asked = settings.weights.keys()
    return bool(asked & _CLIP_METRICS) or ("lpips" in asked and settings.lpips_trunk == "clip")


def _asks_verifier(settings: Settings) -> bool:
    return settings.potential == "weighted" and bool(settings.weights.keys() & _ANSWERS)
