"""Verifiers: judges that answer whether an edit was done, and why. Loads no torch."""

from eacps.verifiers.protocol import Answers, Comparing, Preference, Verifier

__all__ = ["Answers", "Comparing", "Preference", "Verifier"]
