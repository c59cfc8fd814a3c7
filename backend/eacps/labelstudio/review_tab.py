"""The Data Manager's tab for reviews: original, instruction, best edit, score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eacps.settings import Settings

TAB = "Review"
_TOO_LONG_FOR_A_LIST = ("data.candidates", "data.report_md", "data.eacps")
_OF_LABEL_STUDIO = (
    "inner_id",
    "completed_at",
    "cancelled_annotations",
    "total_predictions",
    "annotators",
    "annotations_results",
    "annotations_ids",
    "predictions_model_versions",
    "predictions_results",
    "file_upload",
    "storage_filename",
    "created_at",
    "updated_at",
    "updated_by",
    "avg_lead_time",
    "draft_exists",
)


def review_tab(settings: Settings) -> dict[str, Any]:
    """The tab as Label Studio stores it. Users can show hidden columns again."""
    of_faces = [f"data.{settings.mask_field}", f"data.{settings.face_mapping_field}"]
    hidden = [*_TOO_LONG_FOR_A_LIST, *of_faces, *_OF_LABEL_STUDIO]
    shown = ["gallery", settings.instruction_field, settings.reference_field]
    hidden_in_task_view = ["id", "predictions_score"]
    hidden_in_task_view += [f"data.{name}" for name in (*shown, *settings.route_fields)]
    return {
        "title": TAB,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {
            "explore": _columns(hidden),
            "labeling": _columns([*hidden, *hidden_in_task_view]),
        },
        # The Data Manager shows the first picture of a list: the best edit, or the first character.
        "columnsDisplayType": {
            "tasks:data.gallery": "Image",
            f"tasks:data.{settings.reference_field}": "Image",
        },
        "columnsWidth": {
            "tasks:id": 80,
            "tasks:predictions_score": 160,
            f"tasks:data.{settings.instruction_field}": 360,
        },
        "gridWidth": 4,
        "filters": {"conjunction": "and", "items": []},
    }


def _columns(names: Sequence[str]) -> list[str]:
    return [f"tasks:{name}" for name in names]
