"""The Data Manager's tab for reviewing: original, instruction, best edit, score."""

from __future__ import annotations

from typing import Any

from backend.settings import Settings

TAB = "Review"
_OF_NO_USE_IN_A_LIST = ("data.candidates", "data.report_md", "data.eacps")
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
    """The tab's content, as Label Studio stores it; everything can be shown again by hand."""
    hidden = [f"tasks:{name}" for name in (*_OF_NO_USE_IN_A_LIST, *_OF_LABEL_STUDIO)]
    beside_a_task = ["tasks:id", "tasks:predictions_score"]
    beside_a_task += [f"tasks:data.{name}" for name in ("gallery", settings.instruction_field)]
    return {
        "title": TAB,
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": [*hidden, *beside_a_task]},
        # Of a list of pictures, the Data Manager shows the first: here the best edit.
        "columnsDisplayType": {"tasks:data.gallery": "Image"},
        "columnsWidth": {
            "tasks:id": 80,
            "tasks:predictions_score": 160,
            f"tasks:data.{settings.instruction_field}": 360,
        },
        "gridWidth": 4,
        "filters": {"conjunction": "and", "items": []},
    }
