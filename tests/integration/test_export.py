"""Against a real Label Studio: reviews as a table, with pictures, and as preference pairs."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from PIL import Image
from pydantic import SecretStr
from rich.console import Console

from eacps.artifacts import open_store
from eacps.domain import PRUNED, Candidate, Failure, Metric, Noise, SearchResult, Trial, to_json
from eacps.errors import EacpsError, SettingsError
from eacps.export.layouts import Layout
from eacps.export.run import Exported, Wanted, export
from eacps.images import encode_png, thumbnail
from eacps.labelstudio.hooks import LabelStudioHooks
from eacps.labelstudio.label_config import label_config
from eacps.labelstudio.tasks.origins import origin_of
from eacps.settings import Settings
from tests.label_studio_server import LabelStudioServer, free_port, label_studio_command
from tests.patience import wait_until
from tests.stack import ROOT
from tests.unit.labelstudio.support import png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(label_studio_command() is None, reason="no Label Studio on this machine"),
]
FORMULA = '=HYPERLINK("http://evil.example","prize")'


@pytest.fixture
def settings(server: LabelStudioServer, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=tmp_path / "data",
        label_studio_url=server.url,
        label_studio_api_key=SecretStr(server.token),
        public_url=f"http://127.0.0.1:{free_port()}",
    )


def searched(settings: Settings, origin: dict[str, Any]) -> SearchResult:
    """Three finished candidates and a preview, with real pictures."""
    task = LabelStudioHooks(settings).prepare(origin)
    store = open_store(settings)
    candidates = []
    for index in range(4):
        image = Image.new("RGB", (40, 30), (index * 40, origin["task"] % 200, 90))
        candidates.append(
            Candidate(
                Trial(f"c{index + 1}", Noise(2**62 + index)),
                image=store.put(encode_png(image), "png"),
                thumbnail=store.put(thumbnail(image), "jpg"),
                metrics=(Metric("pf", 0.3, 0.3, 1.0, 0.3),),
                potential=0.9 - index / 10,
                nfe=12,
                failure=Failure(PRUNED, "Stopped early.") if index == 3 else None,
            )
        )
    return SearchResult(task, tuple(candidates), nfe=48, seconds=2.0, editor="tiny")


class Reviewed:
    """A project with tasks that were searched and reviewed."""

    def __init__(self, server: LabelStudioServer, settings: Settings) -> None:
        self.server, self.settings = server, settings
        self.config, self.fields = label_config(), ("image", "prompt")
        self.number = server.create_project(self.config)

    def show(self, image: str, prompt: str, **attributes: str) -> None:
        """Give the project columns of its own."""
        config = label_config(Settings(_env_file=None, image_field=image, instruction_field=prompt))
        words = "".join(f' {name}="{value}"' for name, value in attributes.items())
        self.config = config.replace("<View", f"<View{words}", 1)
        self.fields = (image, prompt)
        body = {"label_config": self.config}
        self.server.call("PATCH", f"/api/projects/{self.number}/", json=body)

    def task(self, prompt: str = "add a hat") -> tuple[int, list[str]]:
        """A task with a result, and the ids of its cards."""
        server, settings = self.server, self.settings
        image = server.upload(self.number, "a.png", png())
        data = dict(zip(self.fields, (image, prompt), strict=True))
        [task] = server.import_tasks(self.number, [{"data": data}])
        origin = to_json(origin_of(server.task(task), settings, label_config=self.config))
        LabelStudioHooks(settings).deliver(origin, searched(settings, origin))
        return task, [card["id"] for card in server.data(task)["candidates"]]

    def review(
        self, task: int, ranked: list[str], rejected: list[str], verdict: str, comment: str = ""
    ) -> None:
        """Submit an annotation as the review screen does."""
        [prediction] = self.server.predictions(task)
        ranking = dict(prediction["result"][0])
        ranking["value"] = {"ranker": {"ranked": ranked, "rejected": rejected}}
        choice = {"from_name": "verdict", "to_name": "img", "type": "choices"}
        words = {"from_name": "comment", "to_name": "img", "type": "textarea"}
        result = [
            ranking,
            {**choice, "value": {"choices": [verdict]}},
            *([{**words, "value": {"text": [comment]}}] if comment else []),
        ]
        body = {"result": result, "parent_prediction": prediction["id"]}
        self.server.call("POST", f"/api/tasks/{task}/annotations/", json=body)

    def export(self, **wanted: Any) -> Exported:
        """Export to files."""
        console = Console(file=io.StringIO())
        return export(self.settings, self.number, Wanted(**wanted), console)

    def forget_store(self) -> None:
        """Delete all artifacts, as retention does."""
        for file in (self.settings.data_dir / "artifacts").rglob("*.*"):
            if file.is_file():
                file.unlink()


@pytest.fixture
def reviewed(server: LabelStudioServer, settings: Settings) -> Reviewed:
    """Three reviews of two tasks: an accepted one by two people, and a corrected one."""
    made = Reviewed(server, settings)
    first, (one, two, three, _) = made.task(FORMULA)
    made.review(first, [one, two, three], [], "Accept best", "+1 good")
    made.review(first, [two, one], [three], "Another is better")
    second, (one, two, three, _) = made.task("add a “scarf”, blue\nand long")
    made.review(second, [one, two, three], [], "Another is better", "contradicts")
    made.task("not reviewed")
    return made


def test_all_formats_say_the_same(reviewed: Reviewed, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"reviews.{kind}" for kind in ("csv", "jsonl", "parquet")}
    for file in files.values():
        assert reviewed.export(table=file).counts["reviews"] == 3
    lines = [json.loads(line) for line in files["jsonl"].read_text().splitlines()]
    with files["csv"].open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    nested = pq.read_table(files["parquet"]).to_pylist()
    assert len(lines) == len(rows) == len(nested) == 3
    for line, row, each in zip(lines, rows, nested, strict=True):
        assert row["verdict"] == line["verdict"] == each["verdict"]
        assert json.loads(row["ranked"]) == line["ranked"] == each["ranked"]
        assert row["best_by_machine"] == line["best_by_machine"] == each["best_by_machine"]
        assert (int(row["by"]), line["by"]) == (each["by"], each["by"])
        best = line["candidates"][line["best_by_human"]]
        assert int(row["best_by_human_seed"]) == best["seed"] >= 2**62
        assert float(row["best_by_human_score"]) == best["score"]
        assert json.loads(row["best_by_human_metrics"]) == {"pf": 0.3}
        assert json.loads(row["candidates"]) == line["candidates"]
        assert {one["id"] for one in each["candidates"]} == set(line["candidates"])
        assert each["problems"] == line["problems"]
    assert "still on top" in "".join(row["problems"] for row in rows)


def test_originals_and_instructions_are_in_the_columns_that_the_project_shows(
    server: LabelStudioServer, settings: Settings, tmp_path: Path
) -> None:
    made = Reviewed(server, settings)
    made.show("photo", "words", eacps_default_instruction="add a default hat")
    for prompt in ("add a scarf", ""):
        task, (one, two, three, _) = made.task(prompt)
        made.review(task, [one, two, three], [], "Accept best")
    table, folder = tmp_path / "reviews.jsonl", tmp_path / "pictures"
    assert not made.export(table=table, pictures=folder).missing
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    assert {line["prompt"] for line in lines} == {"add a scarf", "add a default hat"}
    for line in lines:
        assert line["original"].startswith("/data/upload/")
        assert (tmp_path / line["original_file"]).read_bytes() == png()


def test_cells_are_no_formulas(reviewed: Reviewed, tmp_path: Path) -> None:
    reviewed.export(table=tmp_path / "reviews.csv")
    with (tmp_path / "reviews.csv").open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["prompt"] for row in rows} == {f"'{FORMULA}", "add a “scarf”, blue\nand long"}
    assert "'+1 good" in {row["comment"] for row in rows}
    for row in rows:
        assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())


@pytest.mark.parametrize("stored", [True, False])
def test_pictures_come_from_the_store_or_from_label_studio(
    reviewed: Reviewed, tmp_path: Path, stored: bool
) -> None:
    if not stored:
        reviewed.forget_store()
    table, folder = tmp_path / "reviews.jsonl", tmp_path / "pictures"
    done = reviewed.export(table=table, pictures=folder)
    assert not done.missing
    for line in map(json.loads, table.read_text().splitlines()):
        assert (tmp_path / line["original_file"]).read_bytes() == png()
        for record in line["candidates"].values():
            with Image.open(tmp_path / record["picture"]) as picture:
                assert picture.size == (40, 30)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    reviewed.forget_store()
    reviewed.export(table=table, pictures=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == before


def test_what_others_wrote_is_not_replaced(reviewed: Reviewed, tmp_path: Path) -> None:
    table, folder = tmp_path / "reviews.csv", tmp_path / "pictures"
    table.write_text("mine")
    with pytest.raises(EacpsError, match="in the way"):
        reviewed.export(table=table)
    assert table.read_text() == "mine"
    table.unlink()
    reviewed.export(table=table, pictures=folder)
    reviewed.export(table=table)
    picture = next(folder.rglob("c1-*.png"))
    picture.write_bytes(b"touched up")
    with pytest.raises(EacpsError, match="was changed since it was written"):
        reviewed.export(table=table, pictures=folder)
    assert picture.read_bytes() == b"touched up"


def test_pairs_are_what_people_decided(reviewed: Reviewed, tmp_path: Path) -> None:
    file, folder = tmp_path / "pictures" / "metadata.jsonl", tmp_path / "pictures"
    done = reviewed.export(pairs=file, pictures=folder)
    pairs = [json.loads(line) for line in file.read_text().splitlines()]
    told = [(one["reason"], one["chosen_id"][:2], one["rejected_id"][:2]) for one in pairs]
    accepted = [("best", "c1", "c2"), ("best", "c1", "c3")]
    corrected = [("reordered", "c2", "c1"), ("rejected", "c2", "c3"), ("rejected", "c1", "c3")]
    assert sorted(told) == sorted([*accepted, *corrected])
    assert "1 reviews without pairs" in done.summary
    every = tmp_path / "pictures" / "all.jsonl"
    reviewed.export(pairs=every, pictures=folder, unchanged=True)
    assert len(every.read_text().splitlines()) == len(pairs) + 1


def test_pairs_in_json_lines_are_loaded_by_imagefolder(
    reviewed: Reviewed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pictures"
    reviewed.export(pairs=folder / "metadata.jsonl", pictures=folder)
    loaded = _load(monkeypatch, tmp_path, "imagefolder", data_dir=str(folder))
    assert len(loaded) == 5
    for row in loaded:
        assert row["chosen"].size == row["rejected"].size == (40, 30)
        assert row["original"].size == Image.open(io.BytesIO(png())).size


@pytest.mark.parametrize("layout", ["images", "pick-a-pic", "trl"])
def test_pairs_in_parquet_are_loaded_as_trainers_do(
    reviewed: Reviewed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: Layout
) -> None:
    file = tmp_path / "pairs.parquet"
    reviewed.forget_store()
    assert reviewed.export(pairs=file, layout=layout).counts["pairs"] == 5
    loaded = _load(monkeypatch, tmp_path, "parquet", data_files=str(file))
    expected = {("best", "c1"), ("reordered", "c2"), ("rejected", "c2"), ("rejected", "c1")}
    assert {(row["reason"], row["chosen_id"][:2]) for row in loaded} == expected
    for row in loaded:
        shade = 40 * (int(row["chosen_id"][1]) - 1)
        assert _shade_of_the_chosen(layout, row) == shade


def _shade_of_the_chosen(layout: Layout, row: dict[str, Any]) -> int:
    """How red the preferred picture is, read as trainers of this layout read it."""
    if layout == "images":
        chosen = row["chosen"]
    elif layout == "pick-a-pic":
        # As diffusers' train_diffusion_dpo.py: the first is preferred unless label_0 is 0.
        both = [Image.open(io.BytesIO(row[name])) for name in ("jpg_0", "jpg_1")]
        chosen = both[1] if row["label_0"] == 0 else both[0]
        assert row["caption"]
        assert row["label_0"] + row["label_1"] == 1
    else:
        [message] = row["prompt"]
        kinds = [part["type"] for part in message["content"]]
        assert kinds == ["image"] * len(row["images"]) + ["text"]
        answer = row["chosen"][0]["content"][0]["text"]
        assert answer != row["rejected"][0]["content"][0]["text"]
        chosen = row["images"][1 if "second" in answer else 2]
    shade = chosen.convert("RGB").getpixel((5, 5))
    assert isinstance(shade, tuple)
    return int(shade[0])


def _load(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, **arguments: Any) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    cache = str(folder / "cache")
    return datasets.load_dataset(kind, split="train", cache_dir=cache, **arguments)


def test_files_of_other_projects_are_not_fetched(
    server: LabelStudioServer, settings: Settings, tmp_path: Path
) -> None:
    made, other = Reviewed(server, settings), server.create_project(label_config())
    secret = server.upload(other, "secret.png", png())
    task, (one, *_rest) = made.task()
    [prediction] = server.predictions(task)
    ranking = prediction["result"][0]
    ranking["value"] = {"ranker": {"ranked": [one], "rejected": []}}
    record = {**ranking["meta"]["candidates"][one], "image": secret, "file": None}
    ranking["meta"] = {"candidates": {one: record}}
    server.call("POST", f"/api/tasks/{task}/annotations/", json={"result": [ranking]})
    done = made.export(pictures=tmp_path / "pictures")
    assert any(f"project {other}" in why for why in done.missing.values())
    assert not list((tmp_path / "pictures").rglob("c1-*.png"))


def test_an_interrupted_export_leaves_no_half_file_and_continues(
    reviewed: Reviewed, tmp_path: Path
) -> None:
    settings = reviewed.settings
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EACPS_", "LABEL_ST"))}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT / "backend"),
        "EACPS_DATA_DIR": str(settings.data_dir),
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": reviewed.server.token,
    }
    for _ in range(12):
        task, (one, two, three, _) = reviewed.task()
        reviewed.review(task, [one, two, three], [], "Accept best")
    folder = tmp_path / "pictures"
    command = [sys.executable, "-m", "eacps", "export", str(reviewed.number)]
    command += ["--out", "reviews.csv", "--pictures", "pictures", "--pairs", "pairs.parquet"]
    begun = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    wait_until(lambda: list(folder.rglob("*.png")) or begun.poll() is not None, lambda: "")
    begun.send_signal(signal.SIGINT)
    output = begun.communicate()[0].decode()
    assert begun.returncode == 130, output
    assert not (tmp_path / "reviews.csv").exists()
    assert not list(tmp_path.glob(".eacps-*"))
    whole = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert whole
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "15 reviews" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert (tmp_path / "reviews.csv").read_text(encoding="utf-8-sig").count("Accept best") == 13


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"table": Path("a.xls")}, "no format"),
        ({"format": "parquet"}, "--out FILE.parquet"),
        ({"pairs": Path("a.csv")}, "not written as CSV"),
        ({"pairs": Path("a.jsonl")}, "--pictures FOLDER"),
        ({"pairs": Path("a.jsonl"), "layout": "trl"}, ".parquet"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    settings: Settings, server: LabelStudioServer, wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Reviewed(server, settings).export(**wanted)
    assert words in str(caught.value)


def test_a_project_that_is_not_there_is_said(settings: Settings) -> None:
    with pytest.raises(EacpsError, match=r"There is no project 99999\."):
        export(settings, 99999, Wanted(), Console(file=io.StringIO()))


def test_a_large_project_is_read_in_portions(
    server: LabelStudioServer, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Reviewed(server, settings)
    row = {"data": {"image": "/a.png", "prompt": "x"}, "annotations": [{"result": []}]}
    server.import_tasks(made.number, [row] * 130)
    done = made.export(table=tmp_path / "reviews.jsonl")
    assert done.counts["reviews"] == 130
    lines = [json.loads(line) for line in (tmp_path / "reviews.jsonl").read_text().splitlines()]
    assert len({line["task"] for line in lines}) == 130
