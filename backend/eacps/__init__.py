"""Inference-time scaling for image edits, reviewed in place in Label Studio."""

__version__ = "0.1.0"
