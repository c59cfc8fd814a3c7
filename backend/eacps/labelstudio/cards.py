"""What an annotator sees: cards, report, gallery; and the prediction that ranks the cards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from eacps.domain import Candidate, Failure, Metric, Route, SearchResult
from eacps.labelstudio import label_config
from eacps.labelstudio.tasks.regions import mapping, sequence, text

META = "eacps"
ROUTE_NAMES: Mapping[Route, str] = {
    "edit": "Edit",
    "face_swap": "Face swap",
    "character": "Character",
}
UrlOf = Callable[[str], str]

_ABSENT, _TIMES, _MINUS = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
# Text takes the page's colour and lines are translucent: Label Studio has a dark theme.
_INK, _MUTED, _LINE = "inherit", "#7b8290", "rgba(128,128,128,.28)"
_BEFORE = "_before"
_BEST, _GOOD, _ALARM = "#16893f", "#3b6fd4", "#c8321f"
_FONT = "font-size:12px;line-height:1.45;font-variant-numeric:tabular-nums"


def enrichment(
    result: SearchResult,
    url_of: UrlOf,
    *,
    job_id: str,
    model_version: str,
    references: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields that a finished search adds to its task's data; `references` are addresses of
    the pictures that it was given beside the source."""
    ranked = [candidate.id for candidate in result.usable]
    return {
        "gallery": [url_of(c.image) for c in result.usable if c.image],
        "candidates": [
            _list_item(result, candidate, rank, url_of)
            for rank, candidate in enumerate(result.candidates, start=1)
        ],
        "report_md": report(result, references),
        META: {
            "job": job_id,
            "key": result.task.key,
            "model_version": model_version,
            "ranked": ranked,
            "rejected": [c.id for c in result.candidates if c.id not in ranked],
            "score": round(result.share(result.best.potential), 4),
        },
    }


def failure_enrichment(
    failure: Failure, *, job_id: str, model_version: str, route_line: str = ""
) -> dict[str, Any]:
    """The fields that a failed task gets: a report that says what is wrong and what to do."""
    return {
        "report_md": failure_report(failure, route_line),
        META: {"job": job_id, "model_version": model_version, "failed": failure.code},
    }


def merged(data: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A task's data with new fields, where no card that an annotation may name gets lost."""
    result = {**data, **new}
    if "candidates" not in new:
        return result
    present = {item["id"] for item in new["candidates"]}
    kept = [
        dict(item)
        for item in map(mapping, sequence(data.get("candidates")))
        if isinstance(item.get("id"), str) and item["id"] not in present
    ]
    if kept:
        meta = dict(new[META])
        meta["rejected"] = [*meta["rejected"], *(item["id"] for item in kept)]
        result |= {"candidates": [*new["candidates"], *map(_outdated, kept)], META: meta}
    return result


def prediction(data: Any, model_version: str, job_id: str | None = None) -> dict[str, Any] | None:
    """The prediction that enriched data holds; None if it is missing, old, or inconsistent."""
    content = mapping(data)
    meta = mapping(content.get(META))
    ranked, rejected = sequence(meta.get("ranked")), sequence(meta.get("rejected"))
    if meta.get("model_version") != model_version or not ranked:
        return None
    if job_id is not None and meta.get("job") != job_id:
        return None
    cards = [mapping(item).get("id") for item in sequence(content.get("candidates"))]
    names = [*ranked, *rejected]
    if not all(isinstance(name, str) and name in cards for name in names):
        # A ranker that names a card which the screen does not have blanks the screen.
        return None
    return {
        "model_version": model_version,
        "score": _score(meta.get("score")),
        "result": [_ranker(ranked, rejected)],
    }


def report(result: SearchResult, references: Sequence[str] = ()) -> str:
    """What was asked, one line that sums the search up, then a table of its candidates. HTML on
    one line."""
    task = result.task
    head = _route_line(task.route, task.route_reason)
    facts = [_counted(len(result.candidates), "candidate")]
    if task.route == "face_swap":
        facts.append("no diffusion")
    else:
        facts.insert(0, f"strategy <b>{_plain(task.plan.strategy)}</b>")
        facts.append(f"{result.nfe} NFE")
    facts.append(f"{_number(result.seconds)} s")
    if result.editor:
        made_by = "engine" if task.route == "face_swap" else "editor"
        facts.append(f"{made_by} {_plain(_short(result.editor))}")
    facts.append(_verdict(result))
    notes = "".join(f"<div style='color:{_ALARM}'>{_plain(note)}</div>" for note in result.notes)
    notes += "".join(
        f"<div style='color:{_MUTED}'>{_plain(words)}</div>" for words in result.decisions
    )
    return (
        f"<div style='{_FONT};font-size:13px;color:{_INK}'>"
        f"<div>{head}</div><div style='color:{_MUTED}'>{' · '.join(facts)}</div>{notes}"
        f"{_references(result, references)}{_table(result)}</div>"
    )


def _references(result: SearchResult, addresses: Sequence[str]) -> str:
    """Pictures of the characters, so that reviewers can compare."""
    if not addresses:
        return ""
    title = "Reference" if result.task.route == "edit" else "Character"
    pictures = "".join(
        f"<figure style='margin:0'><img src='{escape(address, quote=True)}' "
        f"style='height:96px;border-radius:6px;border:1px solid {_LINE}'/>"
        f"<figcaption style='color:{_MUTED}'>{title}"
        f"{f' {number}' if len(addresses) > 1 else ''}</figcaption></figure>"
        for number, address in enumerate(addresses, start=1)
    )
    return f"<div style='display:flex;gap:10px;margin:6px 0'>{pictures}</div>"


def failure_report(failure: Failure, route_line: str = "") -> str:
    """Why a task has no candidates, and what to do about it."""
    head = f"<div style='color:{_MUTED}'>{route_line}</div>" if route_line else ""
    return (
        f"<div style='{_FONT};font-size:13px;color:{_INK};border-left:4px solid {_ALARM};"
        f"padding:6px 12px'><b style='color:{_ALARM}'>No edit was made.</b> "
        f"{_plain(failure.message)} <span style='color:{_MUTED}'>({_plain(failure.code)})</span>"
        f"{head}</div>"
    )


def route_line(route: Route, reason: str) -> str:
    """The route and why it was chosen, as HTML."""
    return _route_line(route, reason)


def _route_line(route: Route, reason: str) -> str:
    why = f" <span style='color:{_MUTED}'>({_plain(reason)})</span>" if reason else ""
    return f"Route <b>{ROUTE_NAMES[route]}</b>{why}"


def _verdict(result: SearchResult) -> str:
    best = f"best <b>{_plain(result.best.id.upper())} {_number(result.best.potential)}</b>"
    if result.margin is None:
        return best
    second = _plain(result.usable[1].id.upper())
    return f"{best}, {_number(result.margin)} ahead of {second}"


def _table(result: SearchResult) -> str:
    names = list(dict.fromkeys(m.name for c in result.candidates for m in _ordered(c.metrics)))
    headings = ["#", "candidate", "potential", *map(_named, names), "lineage"]
    if result.task.route != "face_swap":
        headings += ["seed", "NFE"]
    head = "".join(_cell(name, tag="th") for name in headings)
    rows = "".join(
        _row(candidate, rank, names) for rank, candidate in enumerate(result.candidates, start=1)
    )
    return (
        f"<details style='margin-top:4px'><summary style='color:{_MUTED};cursor:pointer'>"
        f"All scores in one table</summary>"
        f"<table style='border-collapse:collapse;margin-top:6px;{_FONT}'>"
        f"<tr>{head}</tr>{rows}</table>{_made_with(result)}</details>"
    )


def _row(candidate: Candidate, rank: int, names: Sequence[str]) -> str:
    values = {metric.name: metric.value for metric in candidate.metrics}
    usable = candidate.failure is None
    cells = [
        str(rank) if usable else _ABSENT,
        _plain(candidate.id.upper()),
        f"<b>{_number(candidate.potential)}</b>",
        *(_number(values.get(name)) for name in names),
        _plain(_lineage(candidate)),
    ]
    told = len(cells) - 1
    if candidate.trial.swap is None:
        cells += [str(candidate.trial.noise.seed), str(candidate.nfe)]
    weight = f"color:{_BEST};font-weight:600" if rank == 1 and usable else ""
    if candidate.pruned:
        cells[told] += f"<br>{_plain(_message(candidate))}"
    elif candidate.failure:
        cells[told] += (
            f"<br><span style='color:{_ALARM}'>{_plain(candidate.failure.message)}</span>"
        )
    row = "".join(_cell(cell, style=weight) for cell in cells)
    return f"<tr>{row}</tr>"


def _message(candidate: Candidate) -> str:
    return candidate.failure.message if candidate.failure else ""


def _cell(content: str, *, tag: str = "td", style: str = "") -> str:
    colour = f"color:{_MUTED};font-weight:500;" if tag == "th" else ""
    return (
        f"<{tag} style='font-size:12px;line-height:1.4;padding:1px 16px 1px 0;"
        f"text-align:left;vertical-align:top;border:0;border-bottom:1px solid {_LINE};"
        f"{colour}{style}'>{content}</{tag}>"
    )


def _list_item(
    result: SearchResult, candidate: Candidate, rank: int, url_of: UrlOf
) -> dict[str, str]:
    usable = candidate.failure is None
    potential = f" · {_number(candidate.potential)}" if usable else " · failed"
    if candidate.pruned:
        potential = " · stopped early"
    picture = candidate.thumbnail or candidate.image
    body = _facts(result, candidate, rank) if usable else _failed(candidate)
    image = ""
    if picture:
        source = escape(url_of(picture), quote=True)
        frame = f"2px solid {_BEST}" if rank == 1 and usable else f"1px solid {_LINE}"
        image = f"<img src='{source}' style='width:136px;border-radius:6px;border:{frame}'/>"
    return {
        "id": candidate.id,
        "title": f"{candidate.id.upper()}{potential}",
        "html": f"<div class='card' style='{_FONT};color:{_INK}'>{image}{body}</div>",
    }


def _facts(result: SearchResult, candidate: Candidate, rank: int) -> str:
    colour = _BEST if rank == 1 else _MUTED
    badge = "best" if rank == 1 else f"rank {rank}"
    top = (
        f"<div style='display:flex;align-items:baseline;gap:8px;margin-bottom:2px'>"
        f"<span style='background:{colour};color:#fff;border-radius:9px;padding:0 8px;"
        f"font-weight:600'>{badge}</span>"
        f"<b>{result.share(candidate.potential):.0%}</b>"
        f"<span style='color:{_MUTED}'>{_distance(result, candidate)}</span></div>"
    )
    rows = "".join(_metric(metric) for metric in _ordered(candidate.metrics))
    notes = "".join(f"<div style='color:{_ALARM}'>{_plain(note)}</div>" for note in candidate.notes)
    foot = f"<div style='color:{_MUTED};margin-top:4px'>{_made_by(candidate)}</div>"
    table = f"<table style='border-collapse:collapse;width:100%'>{_metric_head()}{rows}</table>"
    return f"<div style='flex:1;min-width:0'>{top}{table}{notes}{foot}</div>"


def _distance(result: SearchResult, candidate: Candidate) -> str:
    """How far a candidate is from the one that matters to it: the best, or the best's rival."""
    if candidate.id != result.best.id:
        behind = (result.best.potential or 0.0) - (candidate.potential or 0.0)
        return f"{_number(behind)} behind {_plain(result.best.id.upper())}"
    if result.margin is None:
        return "the only one"
    return f"{_number(result.margin)} ahead of {_plain(result.usable[1].id.upper())}"


def _metric_head() -> str:
    style = f"color:{_MUTED};font-size:11px;white-space:nowrap"
    numbers = "".join(
        f"<td style='{style};padding:0 0 0 8px;text-align:right'>{name}</td>"
        for name in ("value", "weight", "adds")
    )
    return f"<tr><td></td><td style='{style}'>fuller is better</td>{numbers}</tr>"


def _metric(metric: Metric) -> str:
    share = min(1.0, max(0.0, metric.normalised)) if math.isfinite(metric.normalised) else 0.0
    colour = _GOOD if metric.weight else _MUTED
    bar = (
        f"<div style='background:{_LINE};height:7px;border-radius:4px;min-width:40px'>"
        f"<div style='background:{colour};height:7px;border-radius:4px;"
        f"width:{share * 100:.0f}%'></div></div>"
    )
    weighed = (_weight(metric.weight), _signed(metric.contribution)) if metric.weight else ("", "")
    numbers = (_number(metric.value), *weighed)
    cells = "".join(
        f"<td style='padding:0 0 0 8px;text-align:right;white-space:nowrap'>{number}</td>"
        for number in numbers
    )
    return (
        f"<tr><td style='padding:0 8px 0 0;white-space:nowrap'>{_named(metric.name)}</td>"
        f"<td style='width:60%'>{bar}</td>{cells}</tr>"
    )


def _failed(candidate: Candidate) -> str:
    failure = candidate.failure or Failure("error", "")
    head = f"<b style='color:{_ALARM}'>Failed</b>"
    if candidate.pruned:
        head = f"<b style='color:{_MUTED}'>Preview {_number(candidate.potential)}.</b>"
    return (
        f"<div style='flex:1;min-width:0'>{head} "
        f"{_plain(failure.message)}<div style='color:{_MUTED};margin-top:4px'>"
        f"{_made_by(candidate)}</div></div>"
    )


def _made_by(candidate: Candidate) -> str:
    """What it takes to make a candidate again; a face swap involves no noise and no denoiser."""
    if candidate.trial.swap is not None:
        return _plain(_lineage(candidate))
    seed = candidate.trial.noise.seed
    return f"{_plain(_lineage(candidate))} · seed {seed} · {candidate.nfe} NFE"


def _lineage(candidate: Candidate) -> str:
    """How a candidate came to be: a swap's choices, a noise's parents, or both."""
    if candidate.trial.swap is not None:
        return candidate.detail or candidate.trial.lineage
    return "; ".join(filter(None, (candidate.trial.lineage, candidate.detail)))


def _ordered(metrics: Sequence[Metric]) -> list[Metric]:
    """What was before stands right below what it became."""
    names = {metric.name for metric in metrics}

    def place(metric: Metric) -> tuple[int, bool]:
        after = metric.name.removesuffix(_BEFORE)
        leader = after if after in names else metric.name
        first = next(index for index, one in enumerate(metrics) if one.name == leader)
        return first, metric.name != leader

    return sorted(metrics, key=place)


def _named(metric: str) -> str:
    """A metric's name as people read it."""
    return _plain(metric.replace(_BEFORE, " before"))


def _short(editor: str) -> str:
    """An engine without the list of its models, which the table's foot holds."""
    return editor.split(" (", 1)[0]


def _made_with(result: SearchResult) -> str:
    if _short(result.editor) == result.editor:
        return ""
    return f"<div style='color:{_MUTED};margin-top:4px'>Made with {_plain(result.editor)}</div>"


def _outdated(item: dict[str, Any]) -> dict[str, Any]:
    title = text(item.get("title"))
    suffix = " · earlier search"
    return item | {"title": title if title.endswith(suffix) else title + suffix}


def _ranker(ranked: Sequence[str], rejected: Sequence[str]) -> dict[str, Any]:
    return {
        "id": "eacps-rank",
        "from_name": label_config.RANKER,
        "to_name": label_config.CANDIDATES,
        "type": "ranker",
        "value": {"ranker": {"ranked": list(ranked), "rejected": list(rejected)}},
    }


def _score(value: Any) -> float:
    # Label Studio refuses the whole batch for one score that is not a number.
    usable = isinstance(value, int | float) and math.isfinite(value)
    return min(1.0, max(0.0, float(value))) if usable else 0.0


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _ABSENT
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _weight(value: float) -> str:
    return f"{_TIMES}{value:g}".replace("-", _MINUS)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else _MINUS}{_number(abs(value))}"


def _plain(words: str) -> str:
    """Text for HTML on one line: a blank line would end the HTML block in Markdown."""
    return escape(" ".join(words.split()), quote=True)
