"""The document, the dashboard and the alerts name the metrics that exist, and no others."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from eacps import metrics
from eacps.jobs.observing import MEMORY
from eacps.labelstudio.web import metrics as web_metrics
from eacps.log import ID_NAMES

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "observability.md"
EXAMPLES = ROOT / "examples"
DASHBOARD = EXAMPLES / "grafana-dashboard.json"
ALERTS = EXAMPLES / "prometheus-alerts.yml"
NAME = re.compile(r"\beacps_[a-z_]+\b")
OF_HISTOGRAMS = ("_bucket", "_count", "_sum")


def existing() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The type and labels of each metric, by the name that queries use."""
    found = {name: ("gauge", labels) for name, (_, labels) in web_metrics.FLEET.items()}
    found[MEMORY[0]] = ("gauge", ("device", "kind"))
    for module in (metrics, web_metrics):
        for made in vars(module).values():
            if isinstance(made, MetricWrapperBase):
                [described] = made.describe()
                ending = "_total" if described.type == "counter" else ""
                found[f"{described.name}{ending}"] = (described.type, made._labelnames)
    return found


def yaml(path: Path) -> Any:
    return importlib.import_module("yaml").safe_load(path.read_text())


def expressions() -> dict[str, str]:
    """All queries of the dashboard and the alerts."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    for note in dashboard["annotations"]["list"]:
        queries[note["name"]] = note["expr"]
    for group in yaml(ALERTS)["groups"]:
        queries |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    return queries


def test_the_document_lists_every_metric_with_its_labels() -> None:
    rows = re.findall(r"^\| `(eacps_\w+)` \| ([\w, ]*)\|", DOCUMENT.read_text(), flags=re.MULTILINE)
    documented = {name: tuple(filter(None, re.split("[, ]+", labels))) for name, labels in rows}
    assert documented == {name: labels for name, (_, labels) in existing().items()}


def test_histograms_are_marked_in_the_document() -> None:
    rows = re.findall(r"^\| `(eacps_\w+)` .*\(histogram\) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert set(rows) == {name for name, (kind, _) in existing().items() if kind == "histogram"}


@pytest.mark.parametrize(("place", "query"), sorted(expressions().items()))
def test_queries_name_metrics_that_exist_and_their_labels(place: str, query: str) -> None:
    known = existing()
    named = NAME.findall(query)
    assert named or query.startswith("up{"), place
    labels = {"le", "instance", "job"}
    for name in named:
        base = next((name.removesuffix(end) for end in OF_HISTOGRAMS if name.endswith(end)), name)
        kind, own = known.get(name) or known[base]
        assert (kind == "histogram") == (name not in known), f"{place}: {name}"
        assert kind != "counter" or re.search(rf"(rate|increase)\({name}", query), (
            f"{place}: {name}"
        )
        labels |= set(own)
    used = re.findall(r"\bby \(([^)]*)\)", query) + re.findall(r"(\w+)(?:=~|!=|=)\"", query)
    assert {word for each in used for word in re.split(r"[, ]+", each)} <= labels, place


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(expressions().values())
    missing = {name for name in existing() if name not in shown}
    assert not missing


def test_panels_have_own_ids_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for box in [panel["gridPos"]]
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_alerts_are_explained_and_in_the_configuration() -> None:
    assert yaml(EXAMPLES / "prometheus.yml")["rule_files"] == [ALERTS.name]
    text = DOCUMENT.read_text()
    for group in yaml(ALERTS)["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in text
            assert rule["annotations"]["summary"].endswith(".")


def test_every_id_of_a_log_line_is_explained() -> None:
    text = DOCUMENT.read_text().split("## Logs")[1]
    for name in ID_NAMES:
        assert f"`{name}`" in text
