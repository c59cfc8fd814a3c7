"""How the pack is made from nothing: `python -m demo.training --out DIR`."""
