"""Bear studio: a tiny world with ground truth, an editor trained on it, and a scorer."""
