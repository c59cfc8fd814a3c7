"""What EACPS_VERIFIER may name besides classes and folders: judges that servers provide, or that
read language on this machine.

`openai:MODEL`, `anthropic:MODEL` and `gemini:MODEL`, also with the server's address, as in
`openai:MODEL@http://gpu1:8000/v1`; and `local:PATH`. This module loads nothing and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from eacps.errors import SettingsError
from eacps.rubrics.reading import read_rubric, rubric_digest
from eacps.weights import existing_path, weights_digest

if TYPE_CHECKING:
    from eacps.settings import Settings

Service = Literal["openai", "anthropic", "gemini", "local"]
SERVICES: Final[tuple[Service, ...]] = ("openai", "anthropic", "gemini", "local")
VERIFIED: Final = "verified"
"""The main metric of a verifier in a folder."""
REMOTE: Final = frozenset({"openai", "anthropic", "gemini"})
FORMS: Final = "openai:MODEL, anthropic:MODEL, gemini:MODEL, local:PATH"
_NAME: Final = re.compile(r"(?P<service>openai|anthropic|gemini|local):(?P<rest>.*)", re.DOTALL)
_ADDRESS: Final = re.compile(r"(?P<model>.+?)@(?P<address>https?://.+)")
_MODEL: Final = re.compile(r"[^\s@?#]{1,200}")
_OPTIONS_OF_RESULTS: Final = (
    *("rubric", "way", "passes", "temperature", "image_side", "max_tokens"),
    "dtype",
)
"""Options of a judge that change its scores; the others only say how it is reached."""


@dataclass(frozen=True)
class JudgeName:
    """One such name: the service, the model (or path), and the server's address, if it is named."""

    service: Service
    model: str
    address: str = ""

    @property
    def remote(self) -> bool:
        """Whether pictures leave this process for a server."""
        return self.service in REMOTE

    @property
    def label(self) -> str:
        """The name without the address: what is shown, and what a result depends on."""
        return f"{self.service}:{self.model}"


def is_judge_name(name: str) -> bool:
    """Whether a name in EACPS_VERIFIER has one of these forms."""
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=64)
def judge_name(name: str) -> JudgeName | None:
    """The parts of such a name; None for a class or a folder. Raises SettingsError for a name that
    begins like one and is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    service = cast(Service, found["service"])
    if service == "local":
        if not found["rest"].strip():
            raise _wrong(name, "it names no folder")
        return JudgeName(service, found["rest"].strip())
    parts = _ADDRESS.fullmatch(found["rest"])
    model, address = (parts["model"], parts["address"]) if parts else (found["rest"], "")
    if not _MODEL.fullmatch(model):
        raise _wrong(name, "it names no model")
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise _wrong(service, "an address must not contain a password")
    return JudgeName(service, model, address.rstrip("/"))


def judges_named(settings: Settings) -> list[JudgeName]:
    """The judges of these forms in EACPS_VERIFIER."""
    return [found for name in settings.verifiers if (found := judge_name(name))]


def options_written(name: str, settings: Settings) -> dict[str, Any]:
    """A judge's options as EACPS_PLUGIN_OPTIONS has them: under its service, its name without the
    address, or its whole name; the more precise ones win."""
    judge = judge_name(name)
    keys = [judge.service, judge.label, name] if judge else []
    given = settings.plugin_options
    return {key: value for each in keys for key, value in given.get(each, {}).items()}


def rubric_of(name: str, settings: Settings) -> str:
    """The name or path of the rubric by which a judge judges."""
    own = options_written(name, settings).get("rubric")
    return own if isinstance(own, str) and own else settings.rubric


def caption_metrics(settings: Settings) -> frozenset[str]:
    """The metrics of judges that also write a caption of the wished-for picture; empty without
    such judges."""
    named = [name for name in settings.verifiers if is_judge_name(name)]
    rubrics = [read_rubric(rubric_of(name, settings)) for name in named]
    found = {name for one in rubrics if one.writes_captions for name in (*one.ranges, one.main)}
    return frozenset(found)


def identity(name: str, settings: Settings) -> dict[str, Any]:
    """What a judge's scores depend on: its model, its rubric's content, and how it is asked."""
    judge = judge_name(name)
    written = options_written(name, settings)
    options: dict[str, Any] = {
        key: written[key] for key in _OPTIONS_OF_RESULTS[1:] if key in written
    }
    if lora := written.get("lora"):
        options["lora"] = weights_digest(str(lora))
    label = judge.label if judge and judge.remote else "local"
    return {"judge": label, "rubric": rubric_digest(rubric_of(name, settings)), "options": options}


def default_weights(verifier: str, rubric: str) -> Mapping[str, float]:
    """The weights that rank by EACPS_VERIFIER if nothing else was chosen: by the main metric of the
    rubric, or of a folder. Empty for classes, whose questions only they know."""
    names = [name for part in verifier.split(",") if (name := part.strip())]
    if any(map(is_judge_name, names)):
        return {read_rubric(rubric).main: 1.0}
    return {VERIFIED: 1.0} if names and all(map(_is_folder, names)) else {}


def _is_folder(name: str) -> bool:
    path = existing_path(name)
    return path is not None and path.is_dir()


def _wrong(name: str, problem: str) -> SettingsError:
    return SettingsError(
        f"EACPS_VERIFIER names {name[:100]!r}, but {problem}.",
        hint=f"Write {FORMS}, or openai:MODEL@http://host:port/v1.",
    )
