"""Faces: found, told apart, swapped. See docs/faces.md."""
