"""Strategies by name: invalid settings are refused, and other packages may add strategies."""

from __future__ import annotations

import ast
import doctest
import importlib
import math
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eacps.search
from eacps.domain import SearchPlan
from eacps.errors import SettingsError
from eacps.search import budget, cost, create, describe, names
from eacps.search.protocol import Strategy
from eacps.search.registry import STRATEGIES

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "search.md"
BUILT_IN = tuple(STRATEGIES.built_ins)
SOURCES = sorted((ROOT / "backend" / "eacps" / "search").rglob("*.py"))
MODULES = [module.name for module in pkgutil.walk_packages(eacps.search.__path__, "eacps.search.")]


def test_the_default_plan_is_the_reference_search_of_eight_candidates() -> None:
    assert budget(SearchPlan()) == 8
    assert isinstance(create(SearchPlan()), Strategy)


@pytest.mark.parametrize(
    ("strategy", "params", "expected"),
    [
        ("best_of_n", {"n": 5}, 5),
        ("random", {"rounds": 3}, 14),
        ("eacps", {"k": 8, "k_local": 4, "m": 3}, 20),
        ("zero_order", {"rounds": 3, "num_neighbors": 4}, 15),
        ("halving", {"n": 16}, 16),
        ("ade_cot", {"n": 12}, 12),
        ("waves", {"n": 6, "waves": 3}, 18),
        ("refine", {"n": 3, "max_steps": 2, "per_step": 4}, 11),
    ],
)
def test_a_budget_is_known_before_the_search(
    strategy: str, params: dict[str, Any], expected: int
) -> None:
    assert budget(SearchPlan(strategy, params)) == expected


@pytest.mark.parametrize(
    ("strategy", "params", "expected"),
    [
        ("best_of_n", {"n": 5}, 5.0),
        # 8 to step 6 of 12, then 2 to the end.
        ("halving", {"n": 8, "rungs": [[0.5, 2], [1, 1]]}, 8 * 0.5 + 2 * 0.5),
        # 4 children to step 3 of 12, then 2 to the end.
        ("eacps", {"local_rungs": [[0.25, 2]]}, 4 + 4 * 0.25 + 2 * 0.75),
        # Three times: 4 to step 6 of 12, then 1 to the end.
        ("waves", {"n": 4, "waves": 3, "rungs": [[0.5, 1]]}, 3 * (4 * 0.5 + 0.5)),
        # 1 to the end; 8 to step 3, 4 to step 7, 2 to the end.
        ("ade_cot", {"n": 9}, 1 + (8 * 3 + 4 * 4 + 2 * 5) / 12),
        ("ade_cot", {"n": 9, "prune": False}, 9.0),
    ],
)
def test_a_cost_in_full_renders_is_known_before_the_search(
    strategy: str, params: dict[str, Any], expected: float
) -> None:
    assert cost(SearchPlan(strategy, params, steps=12)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["", "EACPS", "halvin", None, ["eacps"], "x" * 10_000])
def test_an_unknown_strategy_names_the_setting_and_the_choices(name: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        create(SearchPlan(name))
    assert "EACPS_STRATEGY to one of: auto, best_of_n, random, eacps" in caught.value.hint
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -3}, "k is -3"),
        ({"k": 2.5}, "k is 2.5"),
        ({"k": "4"}, "k is '4'"),
        ({"k": True}, "k is True"),
        ({"k": None}, "k is None"),
        pytest.param({"k": 10**5000}, "k is an unprintable int", id="5001 digits"),
        ({"k": 4, "m": 5}, "m (5) must not be greater than k (4)"),
        ({"angle": 0}, "angle is 0"),
        ({"angle": 3.0}, "angle is 3.0"),
        ({"angle": math.nan}, "angle is nan"),
        ({"angle_decay": 1.5}, "angle_decay is 1.5"),
        ({"moves": "sideways"}, "moves is 'sideways'"),
        ({"kk": 4}, "no parameter 'kk'"),
        ({7: 4}, "no parameter 7"),
        ({"self": 4}, "no parameter 'self'"),
        (
            {"k": 1000, "m": 1000, "k_local": 1000, "rounds": 9},
            "9001000 trials; the maximum is 1000000",
        ),
        (["k", 4], "not names with values"),
        ("k=4", "not names with values"),
    ],
)
def test_a_wrong_parameter_names_the_setting_and_every_range(params: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        create(SearchPlan("eacps", params))
    assert problem in caught.value.message
    assert "EACPS_STRATEGY_PARAMS" in caught.value.hint
    assert "k: whole number, 1 to 1000" in caught.value.hint
    assert "angle: number, 0.01 to 1.57" in caught.value.hint


@pytest.mark.parametrize(
    ("strategy", "params", "problem"),
    [
        ("eacps", {"rungs": [[0.3, 1]]}, "m (2) must not be greater than what rungs keep (1)"),
        ("eacps", {"adaptive": 1}, "adaptive is 1"),
        ("eacps", {"least_gain": -1}, "least_gain is -1"),
        ("halving", {"rungs": [[0.5, 4], [0.5, 2]]}, "the share 0.5 must be greater than 0.5"),
        ("halving", {"rungs": [[0.5, 2], [0.6, 4]]}, "cannot keep 4 of 2"),
        ("halving", {"rungs": [[0, 2]]}, "rungs is 0"),
        ("halving", {"rungs": [[0.5, 0]]}, "rungs is 0"),
        ("halving", {"rungs": [0.5, 2]}, "rungs is 0.5"),
        ("halving", {"rungs": "0.5:2"}, "rungs is '0.5:2'"),
        ("zero_order", {"threshold": 1.0}, "threshold is 1.0"),
        ("ade_cot", {"n": 2, "n_min": 3}, "n_min (3) must not be greater than n (2)"),
        ("ade_cot", {"early": 0.6, "late": 0.5}, "early (0.6) must be less than late (0.5)"),
        ("ade_cot", {"early": 0}, "early is 0"),
        ("ade_cot", {"at_least": {"pf": "high"}}, "at_least is 'high'"),
        ("ade_cot", {"at_most": {"lpips": math.nan}}, "at_most is nan"),
        ("ade_cot", {"lowest": 5.0, "highest": 5.0}, "lowest (5.0) must be less than highest"),
        ("refine", {"tau_low": 0.9, "tau_high": 0.5}, "tau_low (0.9) must not be greater than"),
    ],
)
def test_inconsistent_parameters_are_refused(
    strategy: str, params: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        create(SearchPlan(strategy, params))
    assert problem in caught.value.message


@pytest.mark.parametrize("steps", [0, -1, None, "12"])
def test_a_render_without_steps_is_refused(steps: Any) -> None:
    with pytest.raises(SettingsError, match="EACPS_STEPS"):
        create(SearchPlan(steps=steps))


@pytest.mark.parametrize(
    "seed", [2**63, -(2**63) - 1, pytest.param(10**5000, id="5001 digits"), "0", None, 0.5]
)
def test_a_seed_that_is_not_a_64_bit_number_is_refused(seed: Any) -> None:
    with pytest.raises(SettingsError, match="EACPS_SEED"):
        create(SearchPlan(seed=seed))


PLUGIN = '''
from dataclasses import dataclass
from eacps.domain import Noise, Trial


@dataclass(frozen=True)
class OneParams:
    shift: int = 5
    budget = 1


class One:
    """Tries one noise."""

    Params = OneParams

    notes = ()

    def __init__(self, params, *, seed, batch_size, steps):
        self.left = [Trial("c1", Noise(seed + params.shift))]

    def ask(self):
        return [self.left.pop()] if self.left else []

    def tell(self, outcomes):
        pass


class NotAStrategy:
    pass
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers good and bad strategies, one under a built-in name."""
    (tmp_path / "strategy_plugin.py").write_text(PLUGIN)
    facts = tmp_path / "strategy_plugin-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strategy-plugin\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[eacps.strategies]\n"
        "one = strategy_plugin:One\n"
        "eacps = strategy_plugin:One\n"
        "broken = strategy_plugin_that_is_gone:One\n"
        "empty = strategy_plugin:NotAStrategy\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_strategy_but_replaces_none() -> None:
    assert names() == (*BUILT_IN, "broken", "empty", "one")
    assert describe("one").summary == "Tries one noise."
    plan = SearchPlan("one", {"shift": 2}, seed=40)
    assert (budget(plan), cost(plan)) == (1, 1.0)
    assert isinstance(create(plan), Strategy)
    assert create(plan).ask()[0].noise.seed == 42
    with pytest.raises(SettingsError, match=r"Eacps of eacps itself, and .*strategy-plugin 1\.0"):
        create(SearchPlan("eacps"))
    with pytest.raises(SettingsError, match=r"no parameter 'k'.*shift: whole number"):
        create(SearchPlan("one", {"k": 2}))


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "problem"), [("broken", "could not be loaded"), ("empty", "has no `Params`")]
)
def test_a_broken_package_is_named(name: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        create(SearchPlan(name))
    assert re.search("strategy[_-]plugin", caught.value.message)
    assert "strategy" in str(caught.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_docs_show_every_strategy_and_parameter_as_it_is(name: str) -> None:
    heading = f"## `{name}`"
    parts = DOCUMENT.read_text().split(f"\n{heading}\n")
    assert len(parts) > 1, (
        f"the strategy {name} is not documented: docs/search.md has no section {heading}"
    )
    assert len(parts) == 2, f"docs/search.md has {len(parts) - 1} sections {heading}"
    section = parts[1].split("\n## ")[0]
    description = describe(name)
    assert description.summary in " ".join(section.split()), (
        f"docs/search.md does not say what {name} does as its class does: {description.summary}"
    )
    for parameter in description.parameters:
        row = (
            f"| `{parameter.name}` | `{parameter.default}` "
            f"| {parameter.allowed} | {parameter.help} |"
        )
        assert row in section, f"docs/search.md, section {heading}, lacks the row {row}"


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_docs_state_what_every_strategy_costs_by_default(name: str) -> None:
    start = f"| [`{name}`](#{name}) |"
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(start)]
    assert len(rows) == 1, (
        f"docs/search.md must list the strategy {name} in one row that begins {start}"
    )
    stated = rows[0].split("|")[3].removeprefix(" at most").strip()
    actual = f"{cost(SearchPlan(name)):.1f}".removesuffix(".0")
    assert stated == actual, f"docs/search.md says that {name} costs {stated}, not {actual}"


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_strategy_has_an_example(name: str) -> None:
    strategy = STRATEGIES.get(name)
    assert ">>>" in (strategy.__doc__ or "")


def test_the_package_is_pure() -> None:
    heavy = {"torch", "PIL", "numpy", "dbos", "diffusers", "label_studio_sdk", "flask"}
    script = f"import sys, eacps.search; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


ALLOWED = {
    *("__future__", "abc", "collections", "dataclasses", "functools", "hashlib", "importlib"),
    *("inspect", "itertools", "math", "statistics", "typing", "pydantic"),
}
OURS = ("eacps.domain", "eacps.errors", "eacps.options", "eacps.plugins", "eacps.search")
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_search_reads_no_clock_no_file_and_no_global_randomness(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED, path
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert module.split(".")[0] in ALLOWED or module.startswith(OURS), f"{path}: {module}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{path} calls {node.func.id}"
