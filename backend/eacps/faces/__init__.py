"""Detects, compares and swaps faces. See docs/faces.md."""
