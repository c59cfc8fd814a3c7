"""The class that Label Studio ML backends are expected to have; see backend/labelstudio."""

from backend.labelstudio.ml_model import BackendModel


class EacpsModel(BackendModel):
    """Searches for the best edit of a task's image."""
