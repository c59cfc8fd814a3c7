"""States as bytes, and how many of them are kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eacps.editors.diffusers.states import State, StateCache, from_bytes, to_bytes
from eacps.errors import EditorError


@given(
    step=st.integers(1, 1000),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    draws=st.booleans(),
)
def test_a_state_comes_back_from_its_bytes_to_the_last_bit(
    step: int, shape: list[int], draws: bool
) -> None:
    generator = torch.Generator().manual_seed(step)
    latents = torch.randn(shape, generator=generator)
    state = State(step, latents, generator.get_state() if draws else None)
    found = from_bytes(to_bytes(state, "me"), "me")
    assert found.step == step
    assert torch.equal(found.latents, latents)
    if draws:
        assert found.generator is not None
        again = torch.Generator()
        again.set_state(found.generator)
        assert torch.equal(torch.randn(3, generator=again), torch.randn(3, generator=generator))
    else:
        assert found.generator is None


def test_a_state_is_read_for_its_owner_only() -> None:
    content = to_bytes(State(2, torch.zeros(4)), "me")
    with pytest.raises(EditorError, match="belongs to another") as caught:
        from_bytes(content, "you")
    assert caught.value.code == "foreign_state"


@given(
    limit=st.integers(0, 50),
    puts=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 30)), max_size=30),
)
def test_the_newest_states_that_fit_are_kept_and_no_more(
    limit: int, puts: list[tuple[str, int]]
) -> None:
    memory = StateCache(limit)
    newest: dict[str, int] = {}
    for key, size in puts:
        memory.put(key, bytes(size))
        newest.pop(key, None)
        newest[key] = size
        while sum(newest.values()) > limit:
            newest.pop(next(iter(newest)))
    kept = {key: memory.get(key) for key in "abcdef"}
    assert {key: len(content) for key, content in kept.items() if content} == newest


def test_what_was_used_is_kept_longer() -> None:
    memory = StateCache(20)
    memory.put("old", bytes(10))
    memory.put("new", bytes(10))
    memory.get("old")
    memory.put("newest", bytes(10))
    assert memory.get("old")
    assert memory.get("new") is None
