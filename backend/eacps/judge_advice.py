"""Says when nothing tells a good edit from a bad one, and which judge would, for what is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from eacps.demo_defaults import is_in_demo_pack

if TYPE_CHECKING:
    from eacps.settings import Settings

SIMILARITIES: Final = frozenset({"pf", "pf_dir", "cons", "lpips", "region"})
"""Metrics that compare an edit with source and instruction, and hardly tell attempts apart."""
RECOMMENDS: Final = "; `eacps doctor` recommends one."
_KEYS: Final = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
}
_LOCAL: Final = ((20_000, "Qwen3-VL-8B-Instruct"), (11_000, "Qwen3-VL-4B-Instruct"))
"""Megabytes of GPU memory that a model needs beside its pictures, the largest one first."""


def without_judge(settings: Settings) -> tuple[str, ...]:
    """A warning in one sentence if only similarities rank the edits of a real editor, or
    nothing."""
    if is_in_demo_pack(settings.editor):
        return ()
    ranks = {"pf"} if settings.potential == "eacps" else {*settings.weights}
    if not ranks <= SIMILARITIES:
        return ()
    return (
        "No judge is set: edits are ranked by how similar they are to the source and to the "
        "instruction, which hardly tells a good attempt from a bad one. Set EACPS_VERIFIER to a "
        f"judge (docs/judges.md){RECOMMENDS}",
    )


def advice(memory: Sequence[int]) -> str:
    """Which judge to use, for the servers and keys in the environment and the memory of each GPU,
    in megabytes."""
    if address := os.environ.get("OPENAI_BASE_URL"):
        return f"EACPS_VERIFIER=openai:MODEL would ask the server at {address}."
    if len(memory) > 1 and (model := _fitting(memory[-1])):
        return (
            f"Serve {model} on one of the {len(memory)} GPUs (vLLM, SGLang), give the others to "
            "EACPS_DEVICES, and set EACPS_VERIFIER=openai:MODEL@http://HOST:PORT/v1."
        )
    for name, service in _KEYS.items():
        if os.environ.get(name):
            return (
                f"{name} is set: EACPS_VERIFIER={service}:MODEL would judge by it, and send it the "
                "pictures of tasks on route edit."
            )
    if memory and (model := _fitting(memory[0])):
        return (
            f"EACPS_VERIFIER=local:FOLDER with {model} takes turns with the editor on this GPU, if "
            "both fit; or name a server's model."
        )
    return (
        "Without a GPU for it, name a server's model: EACPS_VERIFIER=openai:MODEL with "
        "OPENAI_BASE_URL or OPENAI_API_KEY, anthropic:MODEL or gemini:MODEL."
    )


def _fitting(memory: int) -> str:
    return next((model for needed, model in _LOCAL if memory >= needed), "")
