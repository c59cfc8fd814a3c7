"""What is made once and kept while it is in use."""

from __future__ import annotations

import pytest

from eacps.recent import Recent


class Made:
    """Counts what it makes, key by key."""

    def __init__(self, limit: int) -> None:
        self.keys: list[str] = []
        self._recent = Recent[str, str](limit)

    def get(self, key: str) -> str:
        return self._recent.get_or_make(key, lambda: self._make(key))

    def _make(self, key: str) -> str:
        self.keys.append(key)
        return key.upper()


def test_a_value_is_made_once_while_it_is_kept() -> None:
    made = Made(limit=2)
    assert [made.get(key) for key in "abab"] == ["A", "B", "A", "B"]
    assert made.keys == ["a", "b"]


def test_the_longest_unused_goes_first_not_the_oldest() -> None:
    made = Made(limit=2)
    for key in "abac":
        made.get(key)
    assert made.get("a") == "A"
    assert made.keys == ["a", "b", "c"]
    made.get("b")
    assert made.keys == ["a", "b", "c", "b"]


def test_a_value_that_could_not_be_made_takes_no_place() -> None:
    recent = Recent[str, int](1)
    recent.get_or_make("a", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        recent.get_or_make("b", lambda: 1 // 0)
    assert recent.get_or_make("a", lambda: 2) == 1
    assert recent.get_or_make("b", lambda: 3) == 3


def test_nothing_is_a_value_too() -> None:
    recent = Recent[str, int | None](1)
    assert recent.get_or_make("a", lambda: None) is None
    assert recent.get_or_make("a", lambda: 1) is None
