"""The expected answer by the probabilities of its tokens: finer than the token that was said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from eacps.verifiers.language.services.contract import Token

SURE: Final = 0.5
"""So much of the probability must lie on answers that are allowed."""
UNCLEAR: Final = 0.01
"""More than this on tokens that may begin several answers, and nothing is concluded."""


def expected(
    tokens: Sequence[Token], text: str, start: int, end: int, allowed: Mapping[str, float]
) -> float | None:
    """The mean of the `allowed` values, weighted by their probabilities where `text[start:end]`
    stands; None where the tokens do not tell.

    A value may be one token or two. `1` may begin `10`: the token after it tells how likely that
    was, if `1` was said.
    """
    if "".join(token.text for token in tokens) != text:
        return None
    position = 0
    for index, token in enumerate(tokens):
        if position <= start < position + len(token.text):
            follower = tokens[index + 1] if index + 1 < len(tokens) else None
            prefix = token.text[: start - position]
            whole = end <= position + len(token.text)
            said = token.text[start - position :][: end - start]
            return _mean(_masses(token, prefix, said, whole, follower, allowed), allowed)
        position += len(token.text)
    return None


def _masses(
    token: Token,
    prefix: str,
    said: str,
    whole: bool,
    follower: Token | None,
    allowed: Mapping[str, float],
) -> dict[str, float] | None:
    """The probability of each allowed value; None where too much of it is unclear."""
    likely: dict[str, float] = {}
    for text, logprob in {**token.others, token.text: token.logprob}.items():
        if text.startswith(prefix):
            name = text[len(prefix) :].strip(' "').lower()
            likely[name] = likely.get(name, 0.0) + math.exp(min(0.0, logprob))
    in_one = any(name in allowed and _begins_with_another(name, allowed) for name in likely)
    masses = dict.fromkeys(allowed, 0.0)
    unclear = 0.0
    for name, mass in likely.items():
        longer = (
            [each for each in allowed if each != name and each.startswith(name)] if name else []
        )
        if name in allowed and (not longer or in_one):
            masses[name] += mass
        elif longer and name == said.lower() and (not whole or name in allowed):
            _split(masses, name, mass, follower, allowed)
        elif longer:
            unclear += mass
    return None if unclear > UNCLEAR else masses


def _begins_with_another(name: str, allowed: Mapping[str, float]) -> bool:
    """Whether a shorter allowed value begins this one, as 1 begins 10."""
    return any(name != each and name.startswith(each) for each in allowed)


def _split(
    masses: dict[str, float],
    name: str,
    mass: float,
    follower: Token | None,
    allowed: Mapping[str, float],
) -> None:
    """Share out a token that begins several values, by what was likely to follow it."""
    following = {**follower.others, follower.text: follower.logprob} if follower else {}
    ended = 1.0
    for text, logprob in following.items():
        digits = "".join(one for one in text if one.isalnum())
        if digits and name + digits in allowed and text[0].isalnum():
            share = math.exp(min(0.0, logprob))
            masses[name + digits] += mass * share
            ended -= share
    if name in allowed:
        masses[name] += mass * max(0.0, ended)


def _mean(masses: Mapping[str, float] | None, allowed: Mapping[str, float]) -> float | None:
    total = math.fsum(masses.values()) if masses else 0.0
    if masses is None or total < SURE:
        return None
    return math.fsum(allowed[name] * mass for name, mass in masses.items()) / total
