"""Says in plain sentences what metrics mean, and why a candidate won."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eacps.domain import LEAST_CONVINCING_SHARE
from eacps.labelstudio.cards.numbers import number, percent, signed

HIGHER: Final = "higher is better"
LOWER: Final = "lower is better"
DOUBTFUL: Final = 0.5
"""A judge's answer below which it rather says no."""
_JUDGED: Final = ("satisfied", "verified")

_KNOWN: Final[Mapping[str, tuple[str, str, str]]] = {
    "pf": ("Follows the instruction", "How well the picture fits the words.", HIGHER),
    "pf_dir": (
        "Changes in the right direction",
        "Whether the change from the original goes where the instruction points.",
        HIGHER,
    ),
    "cons": (
        "Same scene",
        "How much the picture as a whole still shows the same thing as the original.",
        HIGHER,
    ),
    "lpips": (
        "Visible change",
        "How different it looks from the original to the eye; with a mask, outside of it.",
        LOWER,
    ),
    "region": ("Stays inside the mask", "How much of the change lies inside the mask.", HIGHER),
    "identity": (
        "Same person",
        "How alike the face and the character's face are.",
        HIGHER,
    ),
    "identity_before": (
        "Same person, before",
        "How alike the original's face and the character's face were.",
        HIGHER,
    ),
    "landmarks": ("Face moved", "How far eyes, nose and mouth moved from their places.", LOWER),
    "sharpness": ("Sharp", "How sharp the new face is compared with the original one.", HIGHER),
    "outside": ("Change elsewhere", "How much changed outside of the faces.", LOWER),
    "satisfied": ("Done", "How sure the judge is that what was asked for is there.", HIGHER),
    "preserved": ("Kept", "How sure the judge is that everything else is as it was.", HIGHER),
    "intact": ("Whole", "How sure the judge is that nothing in the picture is broken.", HIGHER),
    "instance": (
        "Questions",
        "The share of the questions written for this task that the judge answers with yes.",
        HIGHER,
    ),
    "caption": (
        "As described",
        "How well the picture matches a sentence that says what the wished-for picture shows.",
        HIGHER,
    ),
    "verified": (
        "Done and kept",
        "How sure the judge is that what was asked for is there and all else is as it was.",
        HIGHER,
    ),
}


def metric_words(name: str) -> dict[str, str]:
    """A metric's title, what it means in one sentence, and which values are better."""
    title, sentence, better = _KNOWN.get(
        name, (name.replace("_", " "), "A metric that a plug-in measures.", "")
    )
    return {"title": title, "sentence": sentence, "better": better}


def convincing(best: Mapping[str, Any] | None) -> str:
    """A sentence if even the best candidate is not convincing; empty if it is."""
    if best is None:
        return ""
    score, metrics = best.get("score"), best.get("metrics") or {}
    if isinstance(score, int | float) and score < LEAST_CONVINCING_SHARE:
        return f"Nothing convincing was found: even the best candidate scores {percent(score)}."
    for name in _JUDGED:
        value = metrics.get(name)
        if isinstance(value, int | float) and value < DOUBTFUL:
            doubt = metric_words(name)["sentence"].removeprefix("How sure the judge is ")
            return (
                "Nothing convincing was found: the judge is only "
                f"{percent(max(0.0, value))} sure {doubt}"
            )
    return ""


def why_it_won(
    best: Mapping[str, Any] | None, second: Mapping[str, Any] | None, name_of: Mapping[str, str]
) -> str:
    """Why the best candidate is ahead of the second."""
    if best is None:
        return ""
    if best.get("potential") is None:
        return "No judge could be asked about these, so their order says nothing."
    first = name_of[best["id"]]
    if second is None:
        return f"{first} is the only candidate that was finished."
    other = name_of[second["id"]]
    margin = _difference(best.get("potential"), second.get("potential"))
    if margin is None:
        return f"{first} has the best score; {other} comes next."
    ahead = f"{first} is {number(margin)} ahead of {other}"
    gains = _gains(best.get("contributions") or {}, second.get("contributions") or {})
    if not gains:
        return f"{ahead}."
    most, by = max(gains.items(), key=lambda item: item[1])
    least, lost = min(gains.items(), key=lambda item: item[1])
    words = ""
    if by > 0:
        words = f", mostly because of “{metric_words(most)['title']}” ({signed(by)})"
    if lost < 0:
        words += f"; {other} is better in “{metric_words(least)['title']}” ({signed(-lost)})"
    return f"{ahead}{words}."


def _gains(best: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: best[name] - second[name] for name in best if name in second}


def _difference(one: Any, other: Any) -> float | None:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) - float(other)
    return None
