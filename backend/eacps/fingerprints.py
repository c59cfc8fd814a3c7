"""What a result depends on, as short names: what was rendered, how it was judged, and the model
version that Label Studio sees. They follow from the settings alone, and from what weights and
plug-ins *are*, not from where they lie.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from eacps import judge_names, plugins
from eacps.domain import Route, digest
from eacps.weights import weights_digest

if TYPE_CHECKING:
    from eacps.settings import Settings

RESULTS_VERSION: Final = 1
"""Bump when a code change makes the same task rank differently."""
RENDER_VERSION: Final = 1
"""Bump when a code change makes the same trial another picture."""
JUDGE_VERSION: Final = 1
"""Bump when a code change gives the same picture other scores."""
VERIFIER_VERSION: Final = 3
"""The same for verifiers alone; 2: they are told how far a preview has come; 3: the demo's does not
judge words that it does not know."""
JUDGES_VERSION: Final = 1
"""The same for judges that read language: bump when they are asked in other words."""

SEARCH: Final = ("strategy", "strategy_params", "seed", "finals")
"""Settings that a task's plan holds."""
RENDER: Final = (
    *("editor", "editor_revision", "editor_dtype", "steps", "guidance", "image_guidance"),
    *("negative_prompt", "pipeline_args", "max_side", "lora", "editor_batch_size"),
)
FACES: Final = (
    *("face_engine", "insightface_pack", "inswapper", "face_license_accepted", "face_restorer"),
    *("face_mark", "face_mapping", "face_alternatives", "face_boosts", "face_blends"),
    "face_shapes",
)
JUDGE: Final = (
    *("clip", "verifier", "lpips_trunk", "potential", "weights", "scorers", "identity_weight"),
    *("face_weights", "verifier_weights", "rubric", "alpha", "beta"),
)
LATER: Final = frozenset({"scorers", "verifier_weights", "alpha", "beta"})
"""Settings that 0.1 did not have: what they are by default must not change a fingerprint."""
_IN_JUDGES: Final = frozenset({"rubric"})
"""Settings that count as part of the judges that use them."""

_WEIGHTS: Final = ("editor", "clip", "verifier", "lora")
_NAMES: Final[Mapping[str, str]] = {
    "strategy": plugins.STRATEGIES,
    "editor": plugins.EDITORS,
    "verifier": plugins.VERIFIERS,
    "face_engine": plugins.FACE_ENGINES,
    "scorers": plugins.SCORERS,
}
"""Settings that may name plug-ins, and their groups."""
_UNNAMED: Final[Mapping[str, str]] = {
    "scorers": plugins.SCORERS,
    "editor": plugins.FAMILIES,
    "verifier": plugins.VERIFIER_FORMATS,
}
"""Settings with which installed plug-ins are used without being named, and their groups."""
_ANSWERS: Final = frozenset({"satisfied", "preserved", "intact", "verified"})
_LENGTH: Final = 10


def fingerprint(settings: Settings) -> str:
    """Changes when, and only when, something changes that results depend on."""
    every = (*SEARCH, *RENDER, *FACES, *JUDGE)
    return _digest({"version": RESULTS_VERSION, **_content(settings, every)})


def rendered(settings: Settings, route: Route) -> str:
    """Which pictures a trial of this route becomes, whatever judges them."""
    parts = {"edit": RENDER, "face_swap": FACES, "character": (*RENDER, *FACES)}[route]
    return _digest({"render": RENDER_VERSION, "route": route, **_content(settings, parts)})


def judged(settings: Settings) -> str:
    """Which scores a picture gets."""
    return _digest({"judge": JUDGE_VERSION, **_content(settings, (*JUDGE, *FACES))})


def equipment(settings: Settings) -> str:
    """What a worker loads. Only a worker with the same renders and judges as a task asks for."""
    versions = {"render": RENDER_VERSION, "judge": JUDGE_VERSION}
    return _digest({**versions, **_content(settings, (*RENDER, *FACES, *JUDGE))})


def equipment_words(settings: Settings) -> str:
    """The same for people: enough to tell one worker's settings from another's."""
    named = {
        "editor": [settings.editor],
        "clip": [settings.clip],
        "verifier": settings.verifiers,
    }
    words = [f"{part} {' and '.join(map(_shown, each))}" for part, each in named.items() if each]
    steps = f"{settings.steps} steps, guidance {settings.guidance:g}, {settings.max_side} px"
    return ", ".join([*words, steps, f"potential {settings.potential}"])


def _content(settings: Settings, fields: Collection[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for field in fields:
        value = getattr(settings, field)
        if field in LATER and value == type(settings).model_fields[field].default:
            continue
        if field in _IN_JUDGES or (field == "finals" and not settings.plan.finals):
            continue
        content[field] = _portable(field, value)
    if "verifier" in content and _uses_verifier(settings):
        content["verifier_version"] = VERIFIER_VERSION
    if "verifier" in content:
        content |= _of_judges(settings)
    return content | _of_plugins(settings, fields)


def _of_judges(settings: Settings) -> dict[str, Any]:
    """What judges that read language are asked, and how; empty without any."""
    named = [name for name in settings.verifiers if judge_names.is_judge_name(name)]
    found = [judge_names.identity(name, settings) for name in named]
    return {"judges": found, "judges_version": JUDGES_VERSION} if found else {}


def _of_plugins(settings: Settings, fields: Collection[str]) -> dict[str, Any]:
    """Which code the plug-ins are that these settings use, and their options; empty without any."""
    used = dict.fromkeys(_used(settings, fields))
    names = dict.fromkeys(name for name, _ in used)
    options = ((name, plugins.written_options(name, settings)) for name in names)
    found = {"plugins": _by_label(used), "plugin_options": _by_label(options)}
    return {part: facts for part, facts in found.items() if facts}


def _used(settings: Settings, fields: Collection[str]) -> Iterator[tuple[str, str]]:
    """The plug-ins that these settings name, or that are used because they are installed, each
    with its identity."""
    for field, group in _NAMES.items():
        for name in _parts(field, getattr(settings, field)) if field in fields else ():
            if field == "verifier" and judge_names.is_judge_name(name):
                continue
            identity = plugins.identity(name, group)
            if identity:
                yield name, identity
    for field, group in _UNNAMED.items():
        for point in plugins.installed(group) if field in fields else ():
            yield point.name, plugins.identity(point.name, group)


def _by_label(facts: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """What is known of plug-ins, by the part of their names that is the same wherever they lie;
    two files may have classes of one name."""
    found: dict[str, list[Any]] = {}
    for name, fact in facts:
        if fact:
            found.setdefault(plugins.label(name), []).append(fact)
    return found


def _portable(field: str, value: Any) -> Any:
    """A setting without the place where its weights or its plug-in lie on this machine."""
    if field in _NAMES and not isinstance(value, str):
        return [plugins.label(name) for name in value]
    if field in _WEIGHTS:
        return ",".join(_weights(name) for name in _parts(field, value))
    return plugins.label(value) if field in _NAMES else value


def _weights(name: str) -> str:
    judge = judge_names.judge_name(name)
    if judge is not None:
        return judge.label if judge.remote else f"local:{weights_digest(judge.model)}"
    return plugins.label(name) if plugins.is_reference(name) else weights_digest(name)


def _parts(field: str, value: Any) -> list[str]:
    if not isinstance(value, str):
        return list(value)
    return [part.strip() for part in value.split(",")] if field == "verifier" else [value]


def _uses_verifier(settings: Settings) -> bool:
    """Whether the potential asks a verifier: only then do its scores decide anything."""
    asked = _ANSWERS & settings.weights.keys()
    return settings.potential == "weighted" and bool(settings.verifier) and bool(asked)


def _shown(name: str) -> str:
    """A class or a folder without its place; the owner is part of a hub id."""
    judge = judge_names.judge_name(name)
    if judge is not None:
        return judge.label if judge.remote else f"local:{_shown(judge.model)}"
    if plugins.is_reference(name):
        return plugins.label(name)
    is_path = name.startswith(("/", ".", "~"))
    return name.rstrip("/").rpartition("/")[2] if is_path else name


def _digest(content: Mapping[str, Any]) -> str:
    return digest(content)[:_LENGTH]
