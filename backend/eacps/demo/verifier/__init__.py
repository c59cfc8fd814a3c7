"""The verifier for the demo's bears."""
