"""One way to extend: a name is a built-in, an installed entry point, `module:Class` or
`path/to/file.py:Class`, everywhere a name is asked for.

Finding out where a name leads imports nothing, so that a process which only has to know *which*
plug-in is in use (the web server, for the model version) never runs its code.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from eacps.errors import SettingsError, first_line
from eacps.options import checked, from_environment, short

if TYPE_CHECKING:
    from eacps.settings import Settings

T = TypeVar("T")

STRATEGIES: Final = "eacps.strategies"
SCORERS: Final = "eacps.scorers"
VERIFIERS: Final = "eacps.verifiers"
VERIFIER_FORMATS: Final = "eacps.verifiers.formats"
EDITORS: Final = "eacps.editors"
FAMILIES: Final = "eacps.families"
FACE_ENGINES: Final = "eacps.face_engines"
"""The groups of entry points."""
OPTIONS: Final = "EACPS_PLUGIN_OPTIONS"

_IN_A_FILE = re.compile(r"(?P<file>.+\.py):(?P<member>[A-Za-z_]\w*)")
_IN_A_MODULE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<member>[A-Za-z_]\w*)")
_HASH_LENGTH = 16
_executing = threading.RLock()
"""Held while a file is executed, so that no other thread sees half a module; a plug-in may load
another one."""
_seen_in_session: dict[int, tuple[int, object]] = {}


@dataclass(frozen=True)
class Context:
    """What a plug-in's `load` is given: the settings, the device that it may use, its own options
    (checked), and the weights' folder where its name was a folder."""

    settings: Settings
    device: str = "cpu"
    options: Any = None
    location: str = ""


@dataclass(frozen=True)
class Source:
    """Where a name leads. `identity` says which code that is: a distribution's version, or the
    hash of a file's bytes; it is empty for what comes with this package."""

    name: str
    target: str
    origin: str
    identity: str = ""

    @property
    def built_in(self) -> bool:
        """Whether it comes with this package."""
        return not self.identity


class Registry(Generic[T]):
    """The plug-ins of one kind, by name."""

    def __init__(
        self,
        kind: str,
        *,
        group: str,
        setting: str,
        built_ins: Mapping[str, str],
        problem: Callable[[Any], str] = lambda _: "",
    ) -> None:
        """`built_ins` are `module:Class` by name; `problem` says in a sentence what a loaded
        plug-in lacks."""
        self.kind = kind
        self.group = group
        self.setting = setting
        self.built_ins = built_ins
        self._problem = problem

    def names(self) -> tuple[str, ...]:
        """Every name that needs no path: the built-in ones first."""
        others = {point.name for point in installed(self.group)}
        return (*self.built_ins, *sorted(others - self.built_ins.keys()))

    def knows(self, name: str) -> bool:
        """Whether the name is one of these plug-ins, or refers to a class."""
        return name in self.names() or is_reference(name)

    def source(self, name: str) -> Source:
        """Where a name leads; imports nothing. Raises SettingsError for a name that is unknown,
        or that two of them have."""
        points = [point for point in installed(self.group) if point.name == name]
        origins = [f"{point.value} of {_origin(point)}" for point in points]
        if name in self.built_ins:
            origins.insert(0, f"{self.built_ins[name]} of eacps itself")
        if len(origins) > 1:
            raise SettingsError(
                f"There are {len(origins)} {self.kind} plug-ins named {name!r}: "
                f"{', and '.join(origins)}.",
                hint="Remove one of the packages, or name the class itself as `module:Class`.",
            )
        if name in self.built_ins:
            return Source(name, self.built_ins[name], "built in")
        if points:
            # What follows in brackets are extras, which are pip's affair.
            target = points[0].value.partition("[")[0].strip()
            return Source(name, target, _origin(points[0]), identity(name, self.group))
        if is_reference(name):
            return _referenced(name)
        known = f"one of: {', '.join(self.names())}; or to " if self.names() else ""
        raise SettingsError(
            f"There is no {self.kind} {short(name)}.",
            hint=f"Set {self.setting} to {known}`module:Class` or `path/to/file.py:Class`.",
        )

    def get(self, name: str) -> T:
        """The plug-in of this name, imported and checked."""
        source = self.source(name)
        found = _member(source, self.kind, self.setting)
        lacking = self._problem(found)
        if lacking:
            raise SettingsError(
                f"The {self.kind} {source.name!r} ({source.origin}) {lacking}.",
                hint="Add what is missing; `eacps.testing` has a check for each kind of plug-in.",
            )
        return cast(T, found)


def is_reference(name: str) -> bool:
    """Whether a name refers to a class, in a file or in a module."""
    return bool(_IN_A_FILE.fullmatch(name) or _IN_A_MODULE.fullmatch(name))


def label(name: str) -> str:
    """A name as people read it: of a path only the class.

    >>> label("my/judges.py:Strict"), label("auto")
    ('Strict', 'auto')
    """
    return name.rpartition(":")[2] if is_reference(name) else name


def identity(name: str, group: str) -> str:
    """Which code a name stands for: empty for what comes with this package. Imports nothing."""
    if is_reference(name):
        return _referenced(name).identity
    points = [point for point in installed(group) if point.name == name]
    return ", ".join(sorted(f"{_origin(point)} {point.value}" for point in points))


def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group."""
    return _installed(group, tuple(sys.path))


@cache
def _installed(group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


@cache
def _distributions(_path: tuple[str, ...]) -> Mapping[str, Sequence[str]]:
    """The distributions that bring each package: most of a second, for every file is looked at."""
    return packages_distributions()


def clashes(registries: Iterable[Registry[Any]]) -> list[str]:
    """What is wrong with installed plug-ins' names, in sentences."""
    found = []
    for registry in registries:
        for name in registry.names():
            try:
                registry.source(name)
            except SettingsError as error:
                found.append(error.message)
    return found


def loaded(plugin: Any, context: Context) -> Any:
    """A plug-in ready for use: by its own `load(context)`, or called with its options if it has
    some, or without arguments."""
    load = getattr(plugin, "load", None)
    if load is not None:
        return load(context)
    return plugin() if context.options is None else plugin(context.options)


def options_for(plugin: Any, name: str, kind: str, settings: Settings) -> Any:
    """A plug-in's own options from EACPS_PLUGIN_OPTIONS, checked; None if it has none."""
    written = written_options(name, settings)
    declared = getattr(plugin, "Options", None)
    if declared is not None:
        whole = from_environment(written, OPTIONS)
        return checked(
            declared,
            whole,
            what=f"The options of {kind} {name!r}",
            setting=OPTIONS,
            hidden=[option for option, value in whole.items() if value != written[option]],
        )
    if written:
        raise SettingsError(
            f"The {kind} {name!r} has no options, but {OPTIONS} has some for it.",
            hint=f"Remove them from {OPTIONS}.",
        )
    return None


def written_options(name: str, settings: Settings) -> dict[str, Any]:
    """A plug-in's options as EACPS_PLUGIN_OPTIONS has them: given by its class alone, or by its
    full name, which wins."""
    given = settings.plugin_options
    return {**given.get(label(name), {}), **given.get(name, {})}


def lacks(plugin: Any, *names: str) -> str:
    """Says which of these attributes a plug-in does not have; empty if it has all.

    >>> lacks(int, "bit_length", "score", "ranges")
    'has no `score`, `ranges`'
    """
    if not callable(plugin):
        return "is not a class"
    missing = [f"`{name}`" for name in names if not hasattr(plugin, name)]
    return f"has no {', '.join(missing)}" if missing else ""


def _referenced(name: str) -> Source:
    in_file = _IN_A_FILE.fullmatch(name)
    if in_file:
        path = _path(in_file["file"])
        return Source(name, f"{path}:{in_file['member']}", f"file {path}", _file_identity(path))
    in_module = _IN_A_MODULE.fullmatch(name)
    assert in_module is not None
    module = in_module["module"]
    if module == "__main__":
        return Source(name, name, "this session", _session_identity(name, in_module["member"]))
    return Source(name, name, f"module {module}", _module_identity(module))


def _path(file: str) -> Path:
    try:
        return Path(file).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # `~` of nobody, links that go round in a circle, and names that no file can have.
        raise SettingsError(
            f"The plug-in's file {short(file)} cannot be found: {str(error).rstrip('.')}.",
            hint="Correct the path.",
        ) from None


def _file_identity(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The plug-in's file {path} cannot be read: {error.strerror}.",
            hint="Correct the path; it starts from the folder where `eacps` was started.",
        ) from None
    return f"sha256 {sha256(content).hexdigest()[:_HASH_LENGTH]}"


def _module_identity(module: str) -> str:
    top = module.split(".", maxsplit=1)[0]
    distributions = sorted(set(_distributions(tuple(sys.path)).get(top, [])))
    if distributions:
        return ", ".join(f"{name} {version(name)}" for name in distributions)
    path = _module_file(module)
    if path is None:
        raise SettingsError(
            f"There is no module {module}.",
            hint="Install its package, or name the file itself as `path/to/file.py:Class`.",
        )
    return _file_identity(path)


def _session_identity(name: str, member: str) -> str:
    """A class that a notebook or script defines; after a redefinition it counts as another one."""
    try:
        found = getattr(sys.modules["__main__"], member)
    except AttributeError:
        raise SettingsError(
            f"{name!r} is no class of this session.",
            hint="Only the notebook or script that defines it can use it by this name; elsewhere "
            "put it into a file and name it as `path/to/file.py:Class`.",
        ) from None
    return f"session {_seen_in_session.setdefault(id(found), (len(_seen_in_session), found))[0]}"


def _module_file(module: str) -> Path | None:
    """A module's file, found without importing anything: `find_spec` would import its parents."""
    search: Sequence[str] | None = None
    spec = None
    parts = module.split(".")
    for index in range(len(parts)):
        name = ".".join(parts[: index + 1])
        spec = importlib.machinery.PathFinder.find_spec(name, search)
        if spec is None:
            return None
        search = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin else None


def _member(source: Source, kind: str, setting: str) -> Any:
    where, _, member = source.target.rpartition(":")
    hint = f"Repair or remove it, or set {setting} to another {kind}."
    try:
        module = _file_module(Path(where)) if where.endswith(".py") else import_module(where)
    except (Exception, SystemExit) as error:
        # Whatever a stranger's module raises while it is imported; a script may end there.
        raise SettingsError(
            f"The {kind} {source.name!r} ({source.origin}) could not be loaded: "
            f"{first_line(error)}.",
            hint=hint,
        ) from error
    try:
        return attrgetter(member)(module)
    except AttributeError:
        nearest = difflib.get_close_matches(member, vars(module), n=1)
        raise SettingsError(
            f"The {kind} {source.name!r} ({source.origin}) has no {member!r}.",
            hint=f"Did you mean {nearest[0]!r}? {hint}" if nearest else hint,
        ) from None


def _file_module(path: Path) -> ModuleType:
    """A file as a module of its own name: two files named alike do not replace each other, nor
    does a file that was edited since stay what it was."""
    content = path.read_bytes()
    what = sha256(str(path).encode() + content).hexdigest()
    name = f"eacps_plugin_{what[:_HASH_LENGTH]}_{path.stem}"
    with _executing:
        return sys.modules[name] if name in sys.modules else _executed(name, path, content)


def _executed(name: str, path: Path, content: bytes) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is still being executed.
    sys.modules[name] = module
    try:
        # Not by the loader: it would run what Python compiled before, where the file is as long as
        # it was then, and was changed within the same second.
        exec(compile(content, path, "exec", dont_inherit=True), vars(module))  # noqa: S102
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _origin(point: EntryPoint) -> str:
    dist = point.dist
    return f"{dist.name} {dist.version}" if dist is not None else "an unknown package"
