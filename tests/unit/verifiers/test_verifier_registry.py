"""What EACPS_VERIFIER may name: classes, files, installed names and folders, also several."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eacps import plugins
from eacps.errors import ScoringError, SettingsError
from eacps.plugins_in_use import check
from eacps.settings import DEMO_PACK, Settings
from eacps.verifiers import Comparing
from eacps.verifiers.registry import find_verifier, verifiers_of
from tests.installed import install

JUDGE = '''
from pydantic import BaseModel
from eacps import Answers, MetricRange, Preference


class Options(BaseModel):
    """What EACPS_PLUGIN_OPTIONS may say."""

    strictness: int = 1


class Judge:
    """A verifier that keeps what it was opened with."""

    Options = Options
    ranges = {"satisfied": MetricRange(worst=0, best=1)}

    def __init__(self, context):
        self.context = context

    @classmethod
    def load(cls, context):
        return cls(context)

    def judge(self, task, images, edited, progress):
        return [Answers({}) for _ in edited]

    def compare(self, task, images, first, second):
        return Preference(1)
'''


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, and another one to start from."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    yield tmp_path / "site"
    sys.modules.pop("strict_judges", None)


def with_options(verifier: str, **options: dict[str, int]) -> Settings:
    return Settings(_env_file=None, verifier=verifier, plugin_options=dict(options))


def a_folder(format_name: str, name: str = "weights") -> str:
    Path(name).mkdir()
    Path(name, "config.json").write_text(f'{{"format": "{format_name}"}}')
    return name


def test_a_class_is_opened_with_its_options_on_the_workers_device() -> None:
    Path("mine.py").write_text(JUDGE)
    settings = with_options("mine.py:Judge", Judge={"strictness": 3})
    (found,) = verifiers_of(settings)
    assert (found.title, found.location) == ("Judge", "")
    verifier = found.load(settings, "cuda:1")
    context = verifier.context  # type: ignore[attr-defined]
    assert context.settings is settings
    assert (context.device, context.options.strictness, context.location) == ("cuda:1", 3, "")
    assert isinstance(verifier, Comparing)


def test_a_package_may_bring_a_verifier_by_name(site: Path) -> None:
    points = {plugins.VERIFIERS: {"strict": "strict_judges:Judge"}}
    install(site, "strict-judges", modules={"strict_judges": JUDGE}, points=points)
    settings = with_options("strict", strict={"strictness": 5})
    check(settings)
    (found,) = verifiers_of(settings)
    assert found.title == "strict"
    assert found.load(settings, "cpu").context.options.strictness == 5  # type: ignore[attr-defined]


def test_a_package_may_bring_a_format_of_folders_with_options(site: Path) -> None:
    points = {plugins.VERIFIER_FORMATS: {"strict-1": "strict_judges:Judge"}}
    install(site, "strict-judges", modules={"strict_judges": JUDGE}, points=points)
    settings = with_options(a_folder("strict-1"), **{"strict-1": {"strictness": 7}})
    check(settings)
    (found,) = verifiers_of(settings)
    assert (found.title, found.name) == ("weights", "strict-1")
    context = found.load(settings, "cpu").context  # type: ignore[attr-defined]
    assert (context.location, context.options.strictness) == ("weights", 7)


def test_several_names_are_several_verifiers_in_their_order() -> None:
    Path("mine.py").write_text(JUDGE)
    settings = with_options(f"mine.py:Judge , {DEMO_PACK / 'verifier'},")
    assert [each.title for each in verifiers_of(settings)] == ["Judge", "verifier"]
    assert verifiers_of(with_options("")) == []


def test_a_folder_whose_format_no_package_reads_names_the_formats() -> None:
    with pytest.raises(ScoringError, match=r"'strict-1'; this version reads 'eacps-verifier-1'"):
        find_verifier(a_folder("strict-1"), Settings())


def test_a_class_that_is_no_verifier_is_told_what_it_lacks() -> None:
    Path("mine.py").write_text("class Judge:\n    ranges = {}\n")
    with pytest.raises(SettingsError, match=r"The verifier 'mine\.py:Judge' .* has no `judge`"):
        find_verifier("mine.py:Judge", Settings())


@pytest.mark.parametrize("name", ["nowhere", "~nobody-of-this-name/x", "x" * 9999, "a\0b", "a.txt"])
def test_what_is_neither_class_nor_folder_is_refused_with_what_may_be_named(
    site: Path, name: str
) -> None:
    Path("a.txt").touch()
    install(site, "strict", points={plugins.VERIFIERS: {"strict": "strict_judges:Judge"}})
    with pytest.raises(ScoringError) as caught:
        find_verifier(name, Settings())
    assert "EACPS_VERIFIER names a folder that does not exist" in caught.value.message
    assert "Set EACPS_VERIFIER to a folder, strict, `module:Class`" in caught.value.hint
