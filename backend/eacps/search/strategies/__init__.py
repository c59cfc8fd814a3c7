"""The search strategies, one per file."""
