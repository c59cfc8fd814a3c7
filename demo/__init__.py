"""Training of the demo's models: a tiny domain with ground truth, its editor and its judges."""
