"""The model class that Label Studio ML backends define; see backend/eacps/labelstudio."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import eacps  # noqa: F401
except ModuleNotFoundError:
    # In a checkout without an installed package, the sources are in `backend/`.
    sys.path.insert(0, str(Path(__file__).parent / "backend"))

from eacps.labelstudio.web.ml_model import BackendModel


class EacpsModel(BackendModel):
    """Searches for the best edit of a task's image."""
