"""Trains all models of the demo pack: `python -m demo.training --out DIR`."""
