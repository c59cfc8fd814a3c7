"""Everything in the jobs database is JSON: whoever can write it must not be able to run code."""

from __future__ import annotations

import json
from typing import Any

from dbos import Serializer

# DBOS unpickles any row that says it is pickled, whatever serializer is configured.
from dbos._serialization import DefaultSerializer

_EXCEPTION = "!exception"


class RecordedError(Exception):
    """An exception that was read back from the jobs database."""


class JsonSerializer(Serializer):
    """Plain JSON; of exceptions only the type's name and the message."""

    def name(self) -> str:
        """What rows written by this serializer are marked with."""
        return "eacps_json"

    def serialize(self, data: Any) -> str:
        """The value as text."""
        return encode(data)

    def deserialize(self, serialized_data: str) -> Any:
        """The value that the text stands for."""
        content = json.loads(serialized_data)
        if isinstance(content, dict) and set(content) == {_EXCEPTION}:
            return RecordedError(content[_EXCEPTION])
        return content


def encode(data: Any) -> str:
    """The one text that stands for a JSON value, so that texts can be compared."""
    if isinstance(data, BaseException):
        data = {_EXCEPTION: f"{type(data).__name__}: {data}"}
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _refused(_serializer: object, _text: str) -> Any:
    raise ValueError("The jobs database holds a pickle, which is never loaded.")


def refuse_pickle() -> None:
    """Make this process fail, rather than unpickle, on a row that claims to be a pickle."""
    DefaultSerializer.deserialize = _refused  # type: ignore[method-assign, assignment]
