"""The verifier that knows the demo's bears."""
