"""Renders reports and cards as single-line HTML from the templates in this folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import TOKEN_DATA, Token, TokenStream
from markupsafe import Markup

from eacps.domain import Candidate, Failure, Metric, Route, SearchResult
from eacps.labelstudio.cards.numbers import bar_width, number, percent, signed, weight
from eacps.labelstudio.cards.records import lineage
from eacps.labelstudio.tasks.routing import UNKNOWN_ROUTE
from eacps.labelstudio.tasks.steering import Steer

ROUTE_NAMES: Mapping[Route, str] = {
    "edit": "Edit",
    "face_swap": "Face swap",
    "character": "Character",
}

_BEFORE = "_before"


def report(
    result: SearchResult,
    references: Sequence[str] = (),
    instruction: str = "",
    steer: Steer | None = None,
) -> str:
    """A summary of the search, and, folded away, its details and a table of its candidates.

    `references` are URLs of the reference pictures; `instruction` is shown if it is given; `steer`
    is what a person asked for.
    """
    return _rendered(
        "report.html",
        result=result,
        route_name=ROUTE_NAMES[result.task.route],
        route_line=route_line(result.task.route, result.task.route_reason),
        route_is_doubtful=result.task.route_reason.startswith(UNKNOWN_ROUTE),
        editor=_without_models(result.editor),
        metric_names=_metric_names(result.candidates),
        references=references,
        instruction=instruction,
        steer=steer,
    )


def card(
    result: SearchResult,
    candidate: Candidate,
    rank: int,
    picture: str | None,
    steer: Steer | None = None,
) -> str:
    """A candidate's picture with its metrics or its failure."""
    return _rendered(
        "card.html",
        result=result,
        candidate=candidate,
        rank=rank,
        picture=picture,
        steer=steer,
        metrics=_ordered(candidate.metrics),
    )


def failure_report(failure: Failure, route_line: str = "") -> str:
    """The report of a task without candidates: the reason and what to do about it.

    `route_line` is the return value of that function; plain strings are escaped.
    """
    return _rendered("failure.html", failure=failure, route_line=route_line)


def waiting_report(note: str) -> str:
    """The report of a task whose search comes later, and why."""
    return _rendered("waiting.html", note=note)


def route_line(route: Route, reason: str) -> Markup:
    """The route and why it was chosen."""
    return Markup(_rendered("route_line.html", route=ROUTE_NAMES[route], reason=reason))  # noqa: S704


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("eacps.labelstudio.cards"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped_on_one_line,
        extensions=[_JoinLines],
    )
    environment.filters |= {
        "bar_width": bar_width,
        "lineage": _lineage,
        "metric_name": _metric_name,
        "number": number,
        "percent": percent,
        "signed": signed,
        "weight": weight,
    }
    return environment


class _JoinLines(Extension):
    """Removes line breaks and indentation from templates."""

    # A blank line would end the HTML block in Markdown.
    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            text = token.value
            if token.type == TOKEN_DATA:
                text = re.sub(r"\s*\n\s*", "", text)
            yield Token(token.lineno, token.type, text)


def _escaped_on_one_line(value: object) -> Markup:
    if isinstance(value, Markup):
        return value
    # html.escape instead of markupsafe's, because stored tasks use `&quot;` and `&#x27;`.
    return Markup(escape(" ".join(str(value).split())))  # noqa: S704


def _metric_names(candidates: Iterable[Candidate]) -> list[str]:
    return list(dict.fromkeys(m.name for c in candidates for m in _ordered(c.metrics)))


def _ordered(metrics: Sequence[Metric]) -> list[Metric]:
    """Sort each metric of the original right below that of the edit."""
    names = {metric.name for metric in metrics}

    def place(metric: Metric) -> tuple[int, bool]:
        after = metric.name.removesuffix(_BEFORE)
        leader = after if after in names else metric.name
        first = next(index for index, one in enumerate(metrics) if one.name == leader)
        return first, metric.name != leader

    return sorted(metrics, key=place)


def _metric_name(name: str) -> str:
    """The display name of a metric."""
    return name.replace(_BEFORE, " before")


def _lineage(candidate: Candidate, steer: Steer | None) -> str:
    """The origin of a candidate: the choices of a swap, the parents of a noise, or both."""
    words = lineage(candidate, steer)
    if candidate.trial.swap is not None:
        if steer is None:
            return candidate.detail or words
        return steer.lineage_of(candidate.id, candidate.detail or candidate.trial.lineage)
    return "; ".join(filter(None, (words, candidate.detail)))


def _without_models(editor: str) -> str:
    """The engine's name without its models, which are listed below the table."""
    return editor.split(" (", 1)[0]
