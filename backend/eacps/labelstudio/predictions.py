"""The predictions of a task in Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from eacps.labelstudio.cards.contract import RANKING
from eacps.labelstudio.client import MISSING, LabelStudioClient
from eacps.labelstudio.errors import LabelStudioDownError, LabelStudioError


class Predictions:
    """Keeps at most one prediction per task and model version, and keeps it up to date."""

    def __init__(self, client: LabelStudioClient, task: int) -> None:
        self._client = client
        self._task = task

    def set(self, wanted: Mapping[str, Any], known: Any = None) -> None:
        """Make `wanted` the only prediction of its model version."""
        version = wanted["model_version"]
        rows = known if isinstance(known, list) else self._client.predictions(self._task)
        existing = _of_version(rows, version)
        if any(_same(row, wanted) for row in existing):
            self._remove_others(existing, wanted)
            return
        self._client.create_prediction(self._task, wanted)
        self._remove_others(_of_version(self._client.predictions(self._task), version), wanted)

    def remove_earlier(self, version: str, known: Any = None) -> None:
        """Remove our predictions from other settings."""
        rows = known if isinstance(known, list) else self._client.predictions(self._task)
        for row in rows:
            if isinstance(row, dict) and row.get("model_version") != version and _is_ours(row):
                self._remove(int(row["id"]))

    def _remove_others(self, rows: list[dict[str, Any]], wanted: Mapping[str, Any]) -> None:
        keep = min(int(row["id"]) for row in rows if _same(row, wanted))
        for row in rows:
            if int(row["id"]) != keep:
                self._remove(int(row["id"]))

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


def _of_version(rows: Iterable[Any], version: str) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict) and row.get("model_version") == version]


def _same(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return _rankings(row.get("result")) == _rankings(wanted["result"])


def _rankings(result: Any) -> str:
    values = [item.get("value") for item in result or [] if isinstance(item, dict)]
    return json.dumps(values, sort_keys=True)
