"""Reports and cards as HTML on one line, rendered from the templates in this folder."""

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

ROUTE_NAMES: Mapping[Route, str] = {
    "edit": "Edit",
    "face_swap": "Face swap",
    "character": "Character",
}

_BEFORE = "_before"


def report(result: SearchResult, references: Sequence[str] = ()) -> str:
    """What was asked, one line that sums the search up, then a table of its candidates.

    `references` are addresses of the pictures that were given beside the source.
    """
    return _rendered(
        "report.html",
        result=result,
        route_line=route_line(result.task.route, result.task.route_reason),
        editor=_without_models(result.editor),
        metric_names=_metric_names(result.candidates),
        references=references,
    )


def card(result: SearchResult, candidate: Candidate, rank: int, picture: str | None) -> str:
    """The picture of a candidate, with its metrics or with what went wrong."""
    return _rendered(
        "card.html",
        result=result,
        candidate=candidate,
        rank=rank,
        picture=picture,
        metrics=_ordered(candidate.metrics),
    )


def failure_report(failure: Failure, route_line: str = "") -> str:
    """Why a task has no candidates, and what to do about it.

    `route_line` is what the function of that name returned; any other text is escaped.
    """
    return _rendered("failure.html", failure=failure, route_line=route_line)


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
    """Removes line breaks and indentation from templates, where they only help the reader."""

    # A blank line in the output would end the HTML block in Markdown.
    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            text = token.value
            if token.type == TOKEN_DATA:
                text = re.sub(r"\s*\n\s*", "", text)
            yield Token(token.lineno, token.type, text)


def _escaped_on_one_line(value: object) -> Markup:
    if isinstance(value, Markup):
        return value
    # html.escape, not markupsafe's: tasks already hold quotes as `&quot;` and `&#x27;`.
    return Markup(escape(" ".join(str(value).split())))  # noqa: S704


def _metric_names(candidates: Iterable[Candidate]) -> list[str]:
    return list(dict.fromkeys(m.name for c in candidates for m in _ordered(c.metrics)))


def _ordered(metrics: Sequence[Metric]) -> list[Metric]:
    """What was before stands right below what it became."""
    names = {metric.name for metric in metrics}

    def place(metric: Metric) -> tuple[int, bool]:
        after = metric.name.removesuffix(_BEFORE)
        leader = after if after in names else metric.name
        first = next(index for index, one in enumerate(metrics) if one.name == leader)
        return first, metric.name != leader

    return sorted(metrics, key=place)


def _metric_name(name: str) -> str:
    """A metric's name as people read it."""
    return name.replace(_BEFORE, " before")


def _lineage(candidate: Candidate) -> str:
    """How a candidate came to be: a swap's choices, a noise's parents, or both."""
    if candidate.trial.swap is not None:
        return candidate.detail or candidate.trial.lineage
    return "; ".join(filter(None, (candidate.trial.lineage, candidate.detail)))


def _without_models(editor: str) -> str:
    """An engine without the list of its models, which stands below the table."""
    return editor.split(" (", 1)[0]
