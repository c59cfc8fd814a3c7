"""The built-in editor families."""
