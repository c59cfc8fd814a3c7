"""JSON for the jobs database, so that writing to it does not allow running code."""

from __future__ import annotations

import json
from typing import Any

from dbos import Serializer

# DBOS unpickles every row that is marked as a pickle, even with another serializer.
from dbos._serialization import DefaultSerializer

_EXCEPTION = "!exception"


class RecordedError(Exception):
    """An exception read from the jobs database."""


class JsonSerializer(Serializer):
    """Plain JSON; exceptions become their type's name and message."""

    def name(self) -> str:
        """The marker of rows written by this serializer."""
        return "eacps_json"

    def serialize(self, data: Any) -> str:
        """Convert a value to text."""
        return encode(data)

    def deserialize(self, serialized_data: str) -> Any:
        """Convert text back to its value."""
        content = json.loads(serialized_data)
        if isinstance(content, dict) and set(content) == {_EXCEPTION}:
            return RecordedError(content[_EXCEPTION])
        return content


def encode(data: Any) -> str:
    """Encode a JSON value canonically, so that texts can be compared."""
    if isinstance(data, BaseException):
        data = {_EXCEPTION: f"{type(data).__name__}: {data}"}
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _refused(_serializer: object, _text: str) -> Any:
    raise ValueError("The jobs database holds a pickle, which is never loaded.")


def refuse_pickle() -> None:
    """Make DBOS raise an error in this process instead of unpickling a row."""
    DefaultSerializer.deserialize = _refused  # type: ignore[method-assign, assignment]
