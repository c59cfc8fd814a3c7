"""The options of `eacps run` that choose settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.offline.choices import Choices
from eacps.offline.tt_scale_flux import RunConfig, read_config
from eacps.search import budget, names
from tests.unit.cli.conftest import Eacps


def test_options_are_settings_of_this_run() -> None:
    asked = Choices("best_of_n", 7, 16, "cpu", ("steps=8", "EACPS_MAX_SIDE=96")).added_to(
        RunConfig()
    )
    settings = asked.settings()
    assert (settings.strategy, settings.seed) == ("best_of_n", 7)
    assert settings.strategy_params == {"n": 16}
    assert (settings.steps, settings.max_side, settings.devices) == (8, 96, ("cpu",))
    # Workers are other processes, and get the same.
    assert asked.variables["EACPS_STRATEGY_PARAMS"] == '{"n": 16}'
    assert asked.variables["EACPS_SEED"] == "7"


def test_options_are_stronger_than_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_SEED", "1")
    monkeypatch.setenv("EACPS_STRATEGY", "eacps")
    monkeypatch.setenv("EACPS_STRATEGY_PARAMS", '{"k": 6}')
    assert Choices(seed=2).added_to(RunConfig()).settings().strategy_params == {"k": 6}
    # The parameters of another strategy mean nothing to this one.
    assert Choices("halving").added_to(RunConfig()).settings().strategy_params == {}
    config = tmp_path / "flux.json"
    config.write_text(json.dumps({"search_args": {"search_method": "random", "search_rounds": 2}}))
    settings = Choices(candidates=14).added_to(read_config(config)).settings()
    assert (settings.strategy, settings.strategy_params["rounds"]) == ("random", 3)


@pytest.mark.parametrize("strategy", names())
def test_every_strategy_tries_as_many_candidates_as_asked_or_says_which_it_can(
    strategy: str,
) -> None:
    for wanted in (1, 8, 24, 30, 64):
        possible = wanted
        refusal = _refusal(strategy, wanted)
        if refusal:
            assert f"--candidates {wanted}: the strategy {strategy} can try" in refusal
            possible = int(refusal.split("can try ")[1].split(" ")[0])
        settings = Choices(strategy, candidates=possible).added_to(RunConfig()).settings()
        assert budget(SearchPlan(strategy, settings.strategy_params)) == possible


def _refusal(strategy: str, candidates: int) -> str:
    try:
        Choices(strategy, candidates=candidates).added_to(RunConfig())
    except SettingsError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "steps"], "--set 'steps' is not NAME=VALUE"),
        (["--set", "step=4"], "--set step: There is no setting step. Did you mean steps?"),
        (["--set", "steps=x"], "--set steps: Input should be a valid integer"),
        (["--set", "steps="], "--set steps= has no value"),
        (["--set", "strategy_params=k"], "--set strategy_params: k is not JSON"),
        (["--set", "weights={'pf': 1}"], "--set weights: {'pf': 1} is not JSON"),
        (["--strategy", "best"], "best"),
        (["--seed", "-1"], "--seed"),
        (["--candidates", "0"], "--candidates"),
        (["--candidates", "13", "--strategy", "random"], "can try 6 or 14 candidates"),
        (["--reference", "gone.png"], "Correct --reference"),
        (["--route", "swop"], "--route 'swop' is no route"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(
    eacps: Eacps, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "bear.png").touch()
    wanted = ["run", "--image", "bear.png", "--prompt", "add a hat", "--out", "results"]
    shown = eacps(*wanted, *arguments)
    assert shown.code == 2
    assert words in " ".join(shown.err.split())


def test_options_of_an_image_are_refused_for_files(eacps: Eacps) -> None:
    options: list[Any] = ["--from-file", "tasks.jsonl", "--out", "results", "--reference", "a.png"]
    shown = eacps("run", *options, "--mask", "b.png")
    assert shown.code == 2
    assert "--mask and --reference cannot be combined with --from-file" in shown.err
