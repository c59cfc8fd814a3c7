"""Placeholder until the demo pack's helper lands."""

from __future__ import annotations


def weights_digest(path_or_hub_id: str) -> str:
    """Identity of a weight folder."""
    return path_or_hub_id
