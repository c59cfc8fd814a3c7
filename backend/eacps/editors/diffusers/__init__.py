"""Diffusers pipelines as editors."""
