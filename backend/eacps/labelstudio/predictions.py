"""The predictions of a task in Label Studio."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eacps.labelstudio.cards.contract import RANKING, names_in_ranking
from eacps.labelstudio.client import MISSING, LabelStudioClient
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError
from eacps.labelstudio.tasks.regions import mapping, sequence


class Predictions:
    """Keeps our predictions of a task up to date: the newest, and those that annotations were made
    from, because Label Studio forgets what an annotation was made from if that is deleted."""

    def __init__(self, client: LabelStudioClient, task: int, annotations: Any = None) -> None:
        self._client = client
        self._task = task
        self._annotated = bool(annotations)
        self._parents = {mapping(each).get("parent_prediction") for each in sequence(annotations)}

    def set(self, wanted: Mapping[str, Any], known: Any = None) -> None:
        """Make `wanted` a prediction of the task, and remove those that it replaces."""
        rows = known if isinstance(known, list) else self._client.predictions(self._task)
        if not any(_same(row, wanted) for row in rows):
            self._write(wanted, [row["id"] for row in rows if self._is_replaced(row, wanted)])
            rows = self._client.predictions(self._task)
        kept = min(int(row["id"]) for row in rows if _same(row, wanted))
        for row in rows:
            if self._is_replaced(row, wanted) and int(row["id"]) != kept:
                self._remove(int(row["id"]))

    def _write(self, wanted: Mapping[str, Any], replaced: Sequence[Any]) -> None:
        """Add a prediction, in place of one that it replaces: somebody may have opened the task,
        and Label Studio refuses an annotation that was made from a deleted prediction."""
        try:
            if replaced:
                self._client.update_prediction(int(max(replaced)), self._task, wanted)
                return
        except LabelStudioDownError:
            raise
        except LabelStudioError as error:
            if error.code != MISSING:
                raise
        self._client.create_prediction(self._task, wanted)

    def _is_replaced(self, row: Any, wanted: Mapping[str, Any]) -> bool:
        if not isinstance(row, dict) or row["id"] in self._parents:
            return False
        if self._annotated:
            # By those of 0.2 and earlier, reviews.py tells which search an annotation was made on.
            same_version = row.get("model_version") == wanted["model_version"]
            return same_version and not names_in_ranking(row, of_02=True)
        return row.get("model_version") == wanted["model_version"] or _is_ours(row)

    def _remove(self, prediction: int) -> None:
        try:
            self._client.delete_prediction(prediction)
        except LabelStudioDownError:
            raise
        except LabelStudioError as error:
            if error.code != MISSING:
                raise


def _is_ours(row: Mapping[str, Any]) -> bool:
    return any(
        isinstance(item, dict) and item.get("id") == RANKING for item in row.get("result") or []
    )


def _same(row: Any, wanted: Mapping[str, Any]) -> bool:
    return (
        isinstance(row, dict)
        and row.get("model_version") == wanted["model_version"]
        and _rankings(row.get("result")) == _rankings(wanted["result"])
    )


def _rankings(result: Any) -> str:
    values = [item.get("value") for item in result or [] if isinstance(item, dict)]
    return json.dumps(values, sort_keys=True)
