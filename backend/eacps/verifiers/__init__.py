"""Verifiers: judges that answer questions about an edit. Importing this does not load torch."""

from eacps.verifiers.protocol import Answers, Comparing, Preference, Verifier

__all__ = ["Answers", "Comparing", "Preference", "Verifier"]
