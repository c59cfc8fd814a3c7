"""The class that Label Studio ML backends are expected to have; see backend/eacps/labelstudio."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import eacps  # noqa: F401
except ModuleNotFoundError:
    # A checkout whose package is not installed: `backend/` is the folder of the sources.
    sys.path.insert(0, str(Path(__file__).parent / "backend"))

from eacps.labelstudio.web.ml_model import BackendModel


class EacpsModel(BackendModel):
    """Searches for the best edit of a task's image."""
