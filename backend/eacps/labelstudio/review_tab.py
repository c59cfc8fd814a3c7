"""The Data Manager's tabs: original, instruction, best edit, score; of all tasks, and of those that
are ready to be reviewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eacps.labelstudio.cards.contract import PANEL, STATE
from eacps.settings import Settings

_TOO_LONG_FOR_A_LIST = ("data.candidates", "data.report_md", "data.eacps", f"data.{PANEL}")
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


def tabs_of(settings: Settings) -> list[dict[str, Any]]:
    """The tabs as Label Studio stores them. Users can show hidden columns again."""
    ready = {
        "filter": "filter:tasks:total_predictions",
        "operator": "greater",
        "type": "Number",
        "value": 0,
    }
    return [_tab("Review", [], settings), _tab("Ready", [ready], settings)]


def _tab(title: str, filters: Sequence[Mapping[str, Any]], settings: Settings) -> dict[str, Any]:
    of_faces = [f"data.{settings.mask_field}", f"data.{settings.face_mapping_field}"]
    hidden = [*_TOO_LONG_FOR_A_LIST, *of_faces, *_OF_LABEL_STUDIO]
    shown = ["gallery", settings.instruction_field, settings.reference_field]
    hidden_in_task_view = ["id", "predictions_score", f"data.{STATE}"]
    hidden_in_task_view += [f"data.{name}" for name in (*shown, *settings.route_fields)]
    return {
        "title": title,
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
        "filters": {"conjunction": "and", "items": list(filters)},
    }


def _columns(names: Sequence[str]) -> list[str]:
    return [f"tasks:{name}" for name in names]
