"""What projects and tasks choose for themselves: precedence, limits, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eacps.domain import SearchPlan, to_json
from eacps.errors import FAULTS_OF_TASKS, SettingsError, TaskError
from eacps.labelstudio.label_config import is_unchanged, label_config, same_config
from eacps.labelstudio.tasks.choices import BAD_CHOICE, NAMES, choices_of
from eacps.labelstudio.tasks.origins import (
    Origin,
    origin_of,
    project_version,
    read_origin,
    settings_of,
)
from eacps.search import budget, create, names, with_budget
from eacps.settings import Settings

TASK: dict[str, Any] = {"id": 5, "project": 2, "data": {"image": "/a.png", "prompt": "add a scarf"}}

STORED_ID = "a982e03e851771c3601672c4"
"""The id of a request that is stored in queues: it must never be another."""


@pytest.fixture
def server() -> Settings:
    return Settings(
        _env_file=None,
        label_studio_url="http://label-studio.example",
        strategy="halving",
        strategy_params={"n": 6},
        steps=12,
        seed=3,
    )


def asked(server: Settings, config: str = "", extra: Any = None, **data: Any) -> Origin:
    task = {**TASK, "data": {**TASK["data"], **data}}
    return origin_of(task, server, label_config=config, extra_params=extra)


def view(**attributes: str) -> str:
    written = " ".join(f"eacps_{name}='{value}'" for name, value in attributes.items())
    return f'<View {written}><Image name="img" value="$image"/><Header value="$prompt"/></View>'


def refusal(server: Settings, *arguments: Any, **data: Any) -> str:
    origin = asked(server, *arguments, **data)
    with pytest.raises(TaskError) as caught:
        settings_of(origin, server)
    assert caught.value.code == BAD_CHOICE
    # What only plug-ins know is seen when the task is prepared.
    assert origin.refused in ("", str(caught.value))
    return str(caught.value)


def test_a_task_without_choices_is_the_same_job_as_ever(server: Settings) -> None:
    plain = asked(server, label_config())
    # As 0.2 wrote it: a new field would give every job of the queue another id.
    assert sorted(to_json(plain)) == [
        *("created", "data", "label_studio", "look_up", "model_version", "project", "regions"),
        *("route", "route_reason", "task"),
    ]
    assert plain.job_id == asked(server, "").job_id
    assert plain.model_version == server.model_version
    assert settings_of(plain, server) is server


def test_the_task_outranks_the_label_config_which_outranks_extra_params(server: Settings) -> None:
    config, extra = view(steps="20", seed="5"), {"steps": 30, "eacps_seed": 6, "budget": 4}
    found = settings_of(asked(server, config, extra, eacps_steps=40), server)
    assert (found.steps, found.seed, found.strategy_params) == (40, 5, {"n": 4})
    found = settings_of(asked(server, config, extra), server)
    assert (found.steps, found.seed) == (20, 5)
    found = settings_of(asked(server, "", extra), server)
    assert (found.steps, found.seed) == (30, 6)


def test_another_strategy_does_not_inherit_parameters(server: Settings) -> None:
    found = settings_of(asked(server, view(strategy="eacps")), server)
    assert found.plan == SearchPlan("eacps", {}, 3, 4, 12)
    config = view(strategy="waves", strategy_params='{"n": 3}')
    found = settings_of(asked(server, config, eacps_strategy="best_of_n"), server)
    assert (found.strategy, found.strategy_params) == ("best_of_n", {})
    found = settings_of(asked(server, view(budget="4"), eacps_strategy="best_of_n"), server)
    assert (found.strategy, found.strategy_params) == ("best_of_n", {"n": 4})
    found = settings_of(asked(server, view(budget="4"), eacps_strategy_params={"n": 9}), server)
    assert found.strategy_params == {"n": 9}


def test_eacps_can_be_asked_for_by_label(server: Settings) -> None:
    for task in (
        {**TASK, "data": {**TASK["data"], "type": "EACPS"}},
        {**TASK, "meta": {"labels": ["EACPS", "Local edit"]}},
        {
            **TASK,
            "annotations": [
                {"id": 1, "result": [{"type": "choices", "value": {"choices": ["eacps"]}}]}
            ],
        },
    ):
        origin = origin_of(task, server)
        assert settings_of(origin, server).strategy == "eacps"
        assert origin.route == "edit"
        assert "matches no pattern" not in origin.route_reason
        # All tasks of a project have its version, or its column of scores would be empty.
        assert origin.model_version == server.model_version
    default = '<View><Choices name="s"><Choice value="EACPS" selected="true"/></Choices></View>'
    assert asked(server, default).model_version.startswith("eacps-")
    assert asked(server, default, eacps_strategy="auto").task_choices == {"strategy": "auto"}


def test_a_label_for_the_strategy_that_is_used_anyway_changes_no_job(server: Settings) -> None:
    same = server.changed({"strategy": "eacps", "strategy_params": {"k": 8}})
    origin = asked(same, type="EACPS")
    assert origin.task_choices == {}
    assert settings_of(origin, same) is same


def test_the_project_decides_the_version_and_the_task_its_result(server: Settings) -> None:
    config = view(strategy="eacps", budget="16")
    plain, own = asked(server, config), asked(server, config, eacps_seed=9)
    assert plain.model_version == own.model_version != server.model_version
    assert plain.model_version == project_version(config, None, server)
    assert plain.job_id != own.job_id
    assert settings_of(plain, server).fingerprint != settings_of(own, server).fingerprint
    again = read_origin(to_json(own))
    assert again == own
    assert again.job_id == own.job_id


def test_a_stored_request_with_choices_keeps_its_meaning_and_its_id(server: Settings) -> None:
    stored = {
        "data": {"img": "/a.png", "words": "add a scarf"},
        "route": "edit",
        "route_reason": "default: the task does not specify a route",
        "model_version": "eacps-0123456789",
        "label_studio": "http://label-studio.example",
        "project": 2,
        "task": 5,
        "created": None,
        "regions": [],
        "look_up": False,
        "columns": {"image_field": "img", "instruction_field": "words"},
        "project_choices": {"strategy": "eacps", "budget": 16},
        "task_choices": {"steps": 20, "weights": {"pf": 1.0}},
        "instruction": "add a hat",
    }
    read = read_origin(stored)
    assert to_json(read) == stored
    assert read.job_id == STORED_ID
    found = settings_of(read, server)
    assert (found.image_field, found.strategy, found.steps) == ("img", "eacps", 20)


def test_a_finished_task_keeps_its_result_when_its_project_changes(server: Settings) -> None:
    before, after = asked(server, view(budget="4")), asked(server, view(budget="5"))
    assert before.job_id != after.job_id
    assert after.asked_as(before.job_id, before.model_version)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"eacps_budget": 500}, "EACPS_MAX_CANDIDATES"),
        ({"eacps_budget": 0}, "at least 1"),
        ({"eacps_steps": 900}, "EACPS_MAX_STEPS"),
        ({"eacps_steps": "many"}, "`eacps_steps` is 'many', which is not a whole number"),
        ({"eacps_steps": True}, "not a whole number"),
        ({"eacps_seed": -1}, "from 0"),
        ({"eacps_seed": "9" * 9999}, "not a whole number"),
        ({"eacps_strategy": "eacsp"}, "There is no strategy 'eacsp'"),
        ({"eacps_strategy": "os:system"}, "EACPS_STRATEGY"),
        ({"eacps_strategy": "/tmp/x.py:Class"}, "EACPS_STRATEGY"),
        ({"eacps_strategy_params": {"m": 1}}, "There is no parameter 'm'"),
        ({"eacps_strategy_params": "[1]"}, "not a JSON object"),
        ({"eacps_strategy_params": "[" * 9000}, "not a JSON object"),
        ({"eacps_weights": {"satisfied": 1}}, "does not measure"),
        ({"eacps_weights": {"pf": float("nan")}}, "not a JSON object of numbers"),
        ({"eacps_potential": "weighted"}, "EACPS_WEIGHTS"),
        ({"eacps_editor": "mine"}, "EACPS_EDITOR is the server's"),
        ({"eacps_data_dir": "/"}, "for the server to set"),
        ({"eacps_url_secret": "x"}, "for the server to set"),
        ({"eacps_default_instruction": "x"}, "for the project to set"),
        ({"eacps_strategi": "eacps"}, "Did you mean `eacps_strategy`?"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_what_the_server_does_not_allow_is_said_in_the_task(
    server: Settings, data: dict[str, Any], words: str
) -> None:
    told = refusal(server, **data)
    assert words in told
    assert len(told) < 1000
    # Or it would have the id of a job that anybody else asked for.
    assert asked(server, **data).job_id != asked(server).job_id
    assert BAD_CHOICE in FAULTS_OF_TASKS


def test_a_project_that_asks_for_too_much_does_not_share_jobs_with_others(server: Settings) -> None:
    told = refusal(server, view(budget="1000"))
    assert "EACPS_MAX_CANDIDATES" in told
    assert "64" in told
    assert asked(server, view(budget="1000")).job_id != asked(server).job_id
    assert "label config's attribute `eacps_editor`" in refusal(server, view(editor="x"))
    assert "extra_params" in refusal(server, "", {"foo": 1})
    assert "extra_params" in refusal(server, "", [1])
    assert "extra_params" in refusal(server, "", {"eacps_seed": "x" * 30_000})


def test_the_server_may_exceed_what_it_allows_others(server: Settings) -> None:
    large = server.changed({"strategy_params": {"n": 500}, "steps": 400})
    assert settings_of(asked(large), large) is large
    assert settings_of(asked(large, eacps_budget=500, eacps_seed=1), large).plan.params == {
        "n": 500
    }
    assert "500" in refusal(large, eacps_budget=501)


def test_steps_that_the_pipeline_fixes_cannot_be_chosen(server: Settings) -> None:
    fixed = server.changed({"pipeline_args": {"sigmas": [1.0, 0.5]}})
    assert "EACPS_PIPELINE_ARGS" in refusal(fixed, eacps_steps=20)


def test_weights_use_what_the_workers_measure(server: Settings) -> None:
    found = settings_of(asked(server, eacps_weights='{"pf": 1, "cons": 2}'), server)
    assert found.potential == "weighted"
    assert found.weights == {"pf": 1.0, "cons": 2.0}
    judged = server.changed({"potential": "weighted", "weights": {"satisfied": 1.0}})
    assert settings_of(asked(judged, eacps_weights={"intact": 1}), judged).weights == {"intact": 1}


def test_blank_cells_of_a_table_choose_nothing(server: Settings) -> None:
    plain = asked(server)
    assert asked(server, eacps_steps="", eacps_seed=None).job_id == plain.job_id
    assert asked(server, eacps_state="ready", eacps_note="mine").job_id == plain.job_id


@pytest.mark.parametrize("strategy", names())
def test_every_strategy_can_spend_a_budget(strategy: str) -> None:
    spent = 0
    for candidates in (2, 3, 5, 8, 17, 64):
        plan = with_budget(SearchPlan(strategy), candidates)
        create(plan)
        begun = budget(plan) // (4 if strategy == "auto" else 1)
        assert spent <= begun <= candidates
        spent = begun
    assert spent > 48


def test_a_strategy_that_needs_more_says_so() -> None:
    with pytest.raises(SettingsError, match="needs 2 or more"):
        with_budget(SearchPlan("eacps"), 1)


# --- fields


def columns(config: str, data: dict[str, Any] | None = None, **named: str) -> dict[str, str]:
    server = Settings(_env_file=None)
    return dict(choices_of(data or {}, config, named, server).columns)


def test_fields_are_those_that_the_label_config_shows() -> None:
    own = label_config(Settings(_env_file=None, image_field="img", instruction_field="instruction"))
    assert columns(own) == {"image_field": "img", "instruction_field": "instruction"}
    assert columns(label_config()) == {}
    named = '<View><Text name="t" value="$words"/><Image name="x" value="$photo"/></View>'
    assert columns(named) == {"image_field": "photo", "instruction_field": "words"}
    several = (
        '<View><Image name="a" value="$one"/><Image name="img" value="$two"/>'
        '<Image name="mask" value="$m"/><Image name="reference" value="$who"/></View>'
    )
    found = {"image_field": "two", "mask_field": "m", "reference_field": "who"}
    assert columns(several) == found
    assert columns(several.replace('"img"', '"b"')) == {"mask_field": "m", "reference_field": "who"}


def test_the_servers_fields_stay_where_they_are_shown_or_filled() -> None:
    both = '<View><Image name="img" value="$thumb"/><Image name="x" value="$image"/></View>'
    assert columns(both) == {}
    other = '<View><Image name="img" value="$thumb"/></View>'
    assert columns(other, {"image": "/a.png"}) == {}
    assert columns(other, {"image": "/a.png", "thumb": "/b.png"}) == {"image_field": "thumb"}
    assert columns(other, {}, eacps_image_field="$photo") == {"image_field": "photo"}


def test_regions_are_masks_of_the_projects_own_picture(server: Settings) -> None:
    config = '<View><Image name="pic" value="$img"/><Image name="other" value="$b"/></View>'
    config = config.replace("<View>", '<View eacps_image_field="img">')
    region = {"type": "rectangle", "value": {"x": 1, "y": 1, "width": 5, "height": 5}}
    drawn = [{**region, "to_name": "pic"}, {**region, "to_name": "other"}]
    task = {"data": {"img": "/a.png"}, "annotations": [{"id": 1, "result": drawn}]}
    origin = origin_of(task, server, label_config=config)
    assert len(origin.regions) == 1
    assert origin.data == {"img": "/a.png"}


def test_connect_keeps_what_a_project_has_chosen() -> None:
    server = Settings(_env_file=None)
    mine = server.changed({"image_field": "img", "instruction_field": "instruction"})
    first = '<View eacps_strategy="eacps" eacps_default_instruction="say &quot;hi&quot;"'
    chosen = label_config(mine).replace("<View", first, 1)
    assert same_config(label_config(server, like=chosen), chosen)
    assert not same_config(label_config(server), chosen)
    foreign = '<View eacps_budget="4"><Image name="i" value="$img"/></View>'
    assert columns(label_config(server, like=foreign)) == {"image_field": "img"}
    assert 'eacps_budget="4"' in label_config(server, like=foreign)
    path = Path(label_config.__code__.co_filename).with_name("label_config_0.2.xml")
    assert is_unchanged(path.read_text().replace('"$image"', '"$img"'))
    assert is_unchanged(chosen)


def test_the_example_of_a_project_says_what_it_does(server: Settings) -> None:
    config = (Path(__file__).parents[3] / "examples" / "own-project.xml").read_text()
    task = {"data": {"photo": "/a.png", "who": "/b.png"}}
    origin = origin_of(task, server, label_config=config)
    assert origin.data == task["data"]
    assert origin.instruction == "put a red hat on the bear"
    found = settings_of(origin, server)
    assert (found.strategy, budget(found.plan), found.seed) == ("eacps", 16, 7)
    assert found.instruction_field == "words"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([f"eacps_{name}" for name in NAMES]), ANYTHING), ANYTHING)
def test_whatever_is_chosen_is_a_job_or_a_sentence(data: dict[str, Any], extra: Any) -> None:
    server = Settings(_env_file=None)
    origin = asked(server, "", extra, **data)
    json.dumps(to_json(origin))
    assert origin.job_id
    try:
        found = settings_of(origin, server)
    except TaskError as error:
        told = str(error)
    else:
        told = ""
        assert budget(found.plan) <= 64
    assert len(told) < 1000
    assert bool(told) >= bool(origin.refused)
