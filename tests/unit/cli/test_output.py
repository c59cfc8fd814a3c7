"""The output folder: what eacps wrote there it may replace, and nothing else."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eacps.artifacts import ArtifactStore
from eacps.domain import Failure, to_json
from eacps.offline import output as module
from eacps.offline.hooks import FileHooks
from eacps.offline.output import InTheWayError, OutputFolder, UnwritableError
from tests.unit.stored import examples

FAILURE = Failure("bad_image", "The image is broken.")


class Results:
    """A folder of results, and the hooks that write there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "out"
        self.private = self.folder / ".eacps"
        self.output = OutputFolder(self.folder, self.private)
        self._store = ArtifactStore(f"file://{folder / 'store'}")
        settings = examples.settings(data_dir=self.private)
        self.hooks = FileHooks(settings, self.folder, self._store)
        self.origin = {"origin": to_json(examples.origin()), "name": "bear", "task_id": 42,
                       "job": "0123-bear"}  # fmt: skip

    def deliver(self, words: str = "") -> None:
        """Deliver a result whose images depend on the words."""
        result = examples.search_result()
        stored = {c.id: self._store.put(f"{words}{c.id}".encode(), "png") for c in result.usable}
        ended = tuple(
            replace(each, image=stored.get(each.id, each.image)) for each in result.candidates
        )
        self.hooks.deliver(self.origin, replace(result, candidates=ended))

    def fail(self) -> None:
        self.hooks.deliver_failure(self.origin, FAILURE)

    def forget(self) -> None:
        """As if 0.1 or 0.2 had written the results: without a record."""
        for path in (self.private / "written").iterdir():
            path.unlink()

    def content(self) -> dict[str, bytes]:
        """Everything that a user sees."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b""
            for path in sorted(self.folder.rglob("*"))
            if ".eacps" not in path.parts
        }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path)
    made.folder.mkdir()
    return made


def test_a_result_is_replaced_as_a_whole_and_nothing_lies_beside_it(results: Results) -> None:
    results.deliver("first")
    before = results.content()
    results.deliver("second")
    assert results.content().keys() == before.keys()
    assert results.content() != before
    assert (results.folder / "bear" / "c1.png").read_bytes() == b"secondc1"
    results.fail()
    assert list(results.content()) == ["bear.json"]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_results_with_and_without_a_record_are_replaced(
    results: Results, recorded: bool, fails: bool
) -> None:
    results.deliver("first")
    if not recorded:
        results.forget()
    if fails:
        results.fail()
        results.forget()
        results.fail()
    results.deliver("second")
    assert (results.folder / "bear" / "best.png").read_bytes() == b"secondc5"


def folder_of_somebody(root: Path) -> None:
    (root / "bear").mkdir()
    (root / "bear" / "main.py").write_text("my code")


def empty_folder(root: Path) -> None:
    (root / "bear").mkdir()


def file_of_somebody(root: Path) -> None:
    (root / "bear").write_text("mine")


def report_of_somebody(root: Path) -> None:
    (root / "bear.json").write_text('{"name": "bear", "best": 1}')


def link(root: Path) -> None:
    (root.parent / "elsewhere").mkdir()
    (root.parent / "elsewhere" / "best.png").write_text("mine")
    (root / "bear").symlink_to(root.parent / "elsewhere")


def broken_link(root: Path) -> None:
    (root / "bear.json").symlink_to(root.parent / "nowhere.json")


OF_OTHERS = [folder_of_somebody, empty_folder, file_of_somebody, report_of_somebody, link,
             broken_link]  # fmt: skip


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("make", OF_OTHERS)
def test_what_eacps_did_not_write_is_left_alone(results: Results, make: Any, fails: bool) -> None:
    make(results.folder)
    before = results.content()
    with pytest.raises(InTheWayError, match="is in the way"):
        results.fail() if fails else results.deliver()
    assert results.content() == before
    assert not list(results.folder.glob(".eacps-*"))


def added_file(root: Path) -> None:
    (root / "bear" / "notes.txt").write_text("mine")


def added_folder(root: Path) -> None:
    (root / "bear" / "mine").mkdir()


def copied_image(root: Path) -> None:
    (root / "bear" / "favourite.png").write_bytes((root / "bear" / "c1.png").read_bytes())


def painted_image(root: Path) -> None:
    (root / "bear" / "best.png").write_text("touched up")


def linked_image(root: Path) -> None:
    (root / "bear" / "c1.png").rename(root.parent / "c1.png")
    (root / "bear" / "c1.png").symlink_to(root.parent / "c1.png")


def noted_report(root: Path) -> None:
    content = json.loads((root / "bear.json").read_text())
    (root / "bear.json").write_text(json.dumps({**content, "comment": "mine"}))


CHANGES = [added_file, added_folder, copied_image, painted_image, linked_image, noted_report]


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_added_to_a_result_or_changed_in_it_is_left_alone(
    results: Results, change: Any, recorded: bool
) -> None:
    if change is noted_report and not recorded:
        pytest.skip("without a record, a report is known by its form")
    results.deliver("first")
    if not recorded:
        results.forget()
    change(results.folder)
    before = results.content()
    for deliver in (results.deliver, results.fail):
        with pytest.raises(InTheWayError, match="is in the way"):
            deliver()
        assert results.content() == before


def test_a_file_that_is_added_while_a_result_is_replaced_survives(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.deliver("first")
    real = module._hashes

    def slow(path: Path) -> module.Hashes:
        (results.folder / "bear" / "thesis.txt").write_text("mine")
        return real(path)

    monkeypatch.setattr(module, "_hashes", slow)
    with pytest.raises(InTheWayError, match=r"thesis\.txt"):
        results.deliver("second")
    assert (results.folder / "bear" / "thesis.txt").read_text() == "mine"
    assert (results.folder / "bear" / "best.png").read_bytes() == b"firstc5"


@pytest.mark.parametrize("broken", ["_delete", "Path.rename"])
def test_a_writer_that_is_killed_leaves_what_the_next_one_replaces(
    results: Results, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    results.deliver("first")
    with monkeypatch.context() as patch:
        calls: list[Any] = []
        real = Path.rename

        def killed(*arguments: Any) -> Any:
            calls.append(arguments)
            if broken == "_delete" or len(calls) > 1:
                raise KeyboardInterrupt
            return real(*arguments)

        owner: Any = module if broken == "_delete" else Path
        patch.setattr(owner, broken.rpartition(".")[2], killed)
        with pytest.raises(KeyboardInterrupt):
            results.deliver("second")
    results.deliver("third")
    results.output.sweep()
    assert (results.folder / "bear" / "best.png").read_bytes() == b"thirdc5"
    assert set(results.content()) >= {"bear", "bear.json"}
    assert not list(results.folder.glob(".*.part"))


def test_a_sweep_takes_only_what_writers_leave(results: Results) -> None:
    mine = [".bear.part", ".src.old", ".0123456789abcdef.parts", "0123456789abcdef.part"]
    for name in mine:
        (results.folder / name).mkdir()
    (results.folder / f".eacps-{16 * 'a'}.part").mkdir()
    results.output.sweep()
    left = sorted(path.name for path in results.folder.iterdir())
    assert left == sorted([*mine, ".eacps"])


def test_many_writers_at_once_leave_one_whole_result(tmp_path: Path) -> None:
    several = [Results(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each[1].deliver(str(each[0])), enumerate(several * 4)))
    content = several[0].content()
    assert len({content[f"bear/c{n}.png"].removesuffix(b"c%d" % n) for n in (1, 2, 5)}) == 1
    assert set(content) == {"bear", "bear/best.png", "bear/c1.png", "bear/c2.png", "bear/c5.png",
                            "bear.json"}  # fmt: skip


def test_a_full_disk_is_a_sentence_and_leaves_the_earlier_result(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.deliver("first")
    before = results.content()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "sync", full)
        with pytest.raises(UnwritableError, match=r"No space left on device\. Make room"):
            results.deliver("second")
    assert results.content() == before
    assert not list(results.folder.glob(".*.part"))
    results.deliver("second")
    assert (results.folder / "bear" / "best.png").read_bytes() == b"secondc5"


def test_a_folder_above_that_is_a_link_is_in_the_way(results: Results) -> None:
    outside = results.folder.parent / "outside"
    outside.mkdir()
    (results.folder / "tt-scale-flux").symlink_to(outside)
    with pytest.raises(InTheWayError, match="is not a folder"):
        results.output.require_free("tt-scale-flux/bear")


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    results = Results(tmp_path)
    results.deliver()
    folder_of_somebody_else = tmp_path / "real" / "cat"
    folder_of_somebody_else.mkdir()
    results.output.require_free("bear", "bear.json")
    with pytest.raises(InTheWayError):
        results.output.require_free("cat")


def test_a_report_gives_its_own_tasks_reason_for_the_route(results: Results) -> None:
    own = replace(examples.origin(), route_reason="default: the task does not specify a route")
    results.origin["origin"] = to_json(own)
    results.deliver()
    report = json.loads(results.content()["bear.json"])
    assert report["task"]["route_reason"] == own.route_reason
