from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eacps.domain import Route
from eacps.labelstudio.tasks.routing import DEFAULT_REASON, choose_route, route_of_label
from eacps.settings import Settings

SETTINGS = Settings(_env_file=None)
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "route",
                    "meta",
                    "annotations",
                    "drafts",
                    "result",
                    "value",
                    "type",
                    "rectanglelabels",
                    "choices",
                    "id",
                    "predictions",
                    "labels",
                    "was_cancelled",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


def rectangle(label: str) -> dict[str, Any]:
    return {"type": "rectanglelabels", "value": {"rectanglelabels": [label]}}


def route(task: Any, config: Any = "", context: Any = None) -> tuple[str, str]:
    choice = choose_route(task, config, context, SETTINGS)
    return choice.route, choice.reason


def test_a_task_that_names_nothing_is_an_edit() -> None:
    assert route({"data": {"image": "x"}}) == ("edit", DEFAULT_REASON)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Face Swap", "face_swap"),
        ("  face   SWAP please ", "face_swap"),
        ("Character inpainting", "character"),
        ("local edit", "edit"),
        ("face_swap", "face_swap"),
        ("sky", None),
        ("[a-z]", None),
        ("*" * 10_000, None),
    ],
)
def test_labels_are_matched_without_regard_to_case(label: str, expected: str | None) -> None:
    assert route_of_label(label, SETTINGS) == expected


def test_the_most_specific_pattern_wins() -> None:
    table: dict[str, Route] = {"*face*": "edit", "*face*swap*": "face_swap", "*": "character"}
    chosen = Settings(_env_file=None, route_labels=table)
    assert route_of_label("face swap", chosen) == "face_swap"
    assert route_of_label("face", chosen) == "edit"
    assert route_of_label("x", chosen) == "character"


def test_the_reason_names_the_label_and_its_place() -> None:
    task = {
        "data": {},
        "annotations": [
            {"id": 11, "updated_at": "2026-01-01", "result": [rectangle("Character")]},
            {"id": 12, "updated_at": "2026-02-01", "result": [rectangle("Face swap")]},
        ],
    }
    assert route(task) == ("face_swap", "label “Face swap” on a rectangle in annotation 12")


def test_the_first_source_that_names_a_route_wins() -> None:
    config = '<View><Choices name="r"><Choice value="Character" selected="true"/></Choices></View>'
    swap, edit = [rectangle("face swap")], [rectangle("Local edit")]
    task: dict[str, Any] = {"data": {}}
    assert route(task, config)[0] == "character"
    task["predictions"] = [{"result": swap}]
    assert route(task, config)[0] == "face_swap"
    task["annotations"] = [{"id": 1, "result": edit}]
    assert route(task, config)[0] == "edit"
    assert route(task, config, {"result": swap})[0] == "face_swap"
    task["meta"] = {"route": "character"}
    assert route(task, config, {"result": swap})[0] == "character"
    task["data"]["type"] = ["nonsense", "face swap"]
    assert route(task, config)[0] == "face_swap"


def test_a_chosen_route_wins_over_what_is_marked() -> None:
    chosen = {"type": "choices", "value": {"choices": ["Face swap"]}}
    marked = [rectangle("Local edit"), rectangle("Edit here")]
    task = {"data": {}, "annotations": [{"id": 1, "result": [*marked, chosen]}]}
    assert route(task) == ("face_swap", "label “Face swap” chosen in annotation 1")


def test_the_label_of_a_mask_names_no_route() -> None:
    config = '<View><Choices name="r"><Choice value="Character" selected="true"/></Choices></View>'
    task = {"data": {}, "annotations": [{"id": 1, "result": [rectangle("Edit here")]}]}
    assert route(task, config)[0] == "character"
    assert route(task) == ("edit", DEFAULT_REASON)


def test_a_skipped_annotation_says_nothing() -> None:
    skipped = {"id": 1, "was_cancelled": True, "result": [rectangle("Face swap")]}
    assert route({"data": {}, "annotations": [skipped]})[0] == "edit"


def test_an_unknown_route_in_the_data_is_mentioned() -> None:
    chosen, reason = route({"data": {"route": "upscale"}})
    assert chosen == "edit"
    assert "upscale" in reason
    assert "EACPS_ROUTE_LABELS" in reason


@pytest.mark.parametrize("config", ["<", "<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", 7, None, "x" * 9])
def test_a_broken_label_config_is_ignored(config: Any) -> None:
    assert route({"data": {}}, config)[0] == "edit"


@hypothesis_settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_json_makes_it_raise(task: Any, config: Any, context: Any) -> None:
    assert choose_route(task, config, context, SETTINGS).route in ("edit", "face_swap", "character")
