"""Faults from a seed: the whole product is run, fed and attacked, and every outcome is checked."""
