"""The Data Manager's tabs: original, instruction, best edit, score; of all tasks, of those that are
ready to be reviewed, of those that failed, and of those whose search is not finished."""

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
    # Label Studio counts predictions, which a filter for `ready` would need the field for: until a
    # search has ended, no task has it.
    ready = _filter("total_predictions", "Number", "greater", 0)
    none = _filter("total_predictions", "Number", "equal", 0)
    failed = _filter(f"data.{STATE}", "String", "contains", "failed")
    waiting = _filter(f"data.{STATE}", "String", "empty", "true")
    return [
        _tab("Review", [], settings),
        _tab("Ready", [ready], settings),
        _tab("Failed", [failed], settings),
        _tab("Not finished", [none, waiting], settings),
    ]


def _filter(column: str, kind: str, operator: str, value: Any) -> dict[str, Any]:
    name = f"filter:tasks:{column}"
    return {"filter": name, "operator": operator, "type": kind, "value": value}


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
            # With a route and a reference, too, the best edit is on a screen of 1280 pixels.
            "tasks:id": 70,
            "tasks:predictions_score": 130,
            f"tasks:data.{settings.image_field}": 110,
            f"tasks:data.{settings.instruction_field}": 250,
            **{f"tasks:data.{name}": 110 for name in settings.route_fields},
            f"tasks:data.{settings.reference_field}": 110,
            f"tasks:data.{STATE}": 120,
            "tasks:data.gallery": 110,
        },
        "gridWidth": 4,
        "filters": {"conjunction": "and", "items": list(filters)},
    }


def _columns(names: Sequence[str]) -> list[str]:
    return [f"tasks:{name}" for name in names]
