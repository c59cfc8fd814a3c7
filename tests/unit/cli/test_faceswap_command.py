"""`eacps faceswap` and `eacps face-models`: files in, files out, every mistake in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import insightface
import numpy as np
import pytest
import skimage.data
from PIL import Image
from rich.console import Console

from eacps.offline.faceswap import REPORT, swap_tasks
from eacps.offline.tasks import tasks_of_file
from eacps.settings import FACE_MODELS, PACKAGE, load_settings
from tests import synthetic_face_models as synthetic
from tests.synthetic_face_models import ALICE, BOB, CAROL, Drawn

Eacps = Any
Report = dict[str, dict[str, Any]]
WIDTH, HEIGHT, SIZE = 640, 400, 150
LEFT, RIGHT = (180, 200), (460, 200)
FACES_OF_FRIENDS = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.build(tmp_path_factory.mktemp("insightface"))


@pytest.fixture(autouse=True)
def synthetic_engine(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    """InsightFace's real classes on small synthetic models."""
    for name, value in {
        "EACPS_FACE_ENGINE": "insightface",
        "EACPS_FACE_LICENSE_ACCEPTED": "true",
        "EACPS_INSIGHTFACE_ROOT": str(models),
        "EACPS_INSIGHTFACE_PACK": "synthetic",
        "EACPS_INSWAPPER": "swapper.onnx",
        "EACPS_FACE_BOOSTS": "[256]",
        "EACPS_DEVICES": "cpu",
        "EACPS_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    couple = synthetic.picture(WIDTH, HEIGHT, Drawn(BOB, *LEFT, SIZE), Drawn(CAROL, *RIGHT, SIZE))
    Image.fromarray(couple).save(folder / "couple.png")
    for name, person in (("alice", ALICE), ("bob", BOB), ("carol", CAROL)):
        portrait = synthetic.picture(260, 260, Drawn(person, 130, 130, 160))
        Image.fromarray(portrait).save(folder / f"{name}.png")
    mask(folder / "left.png", LEFT)
    mask(folder / "right.png", RIGHT)
    Image.new("RGB", (300, 200), "gray").save(folder / "nobody.png")
    return folder


@pytest.fixture(autouse=True)
def pictures(own_folder: None, drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)


def mask(name: str | Path, centre: tuple[int, int]) -> None:
    white = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    half = SIZE * 3 // 4
    white[centre[1] - half : centre[1] + half, centre[0] - half : centre[0] + half] = 255
    Image.fromarray(white).save(name)


def pixels(name: str | Path) -> np.ndarray[Any, Any]:
    return np.array(Image.open(name).convert("RGB")).astype(int)


def changed(before: str, after: str, centre: tuple[int, int]) -> bool:
    """Whether the face around a point is another one."""
    x, y = centre
    window = (slice(y - 40, y + 40), slice(x - 40, x + 40))
    return bool(np.abs(pixels(before)[window] - pixels(after)[window]).mean() > 5)


def test_one_swap_says_which_engine_which_face_and_how_alike(eacps: Eacps) -> None:
    shown = eacps("faceswap", "--scene", "couple.png", "--character", "alice.png",
                  "--mask", "right.png", "--out", "new/swapped.png")  # fmt: skip
    assert shown.code == 0
    assert not shown.err
    for words in ("insightface: ", "swapper.onnx", "CPUExecutionProvider", "face",
                  "identity", "before", "after", "new/swapped.png"):  # fmt: skip
        assert words in shown.out
    assert changed("couple.png", "new/swapped.png", RIGHT)
    assert not changed("couple.png", "new/swapped.png", LEFT)
    outside = pixels("right.png") == 0
    assert (pixels("couple.png") == pixels("new/swapped.png"))[outside].all()


def test_json_is_all_that_is_printed_and_says_the_same(eacps: Eacps) -> None:
    shown = eacps("faceswap", "--scene", "couple.png", "--character", "alice.png",
                  "--mask", "left.png", "--out", "swapped.png", "--json")  # fmt: skip
    facts = json.loads(shown.out)
    assert facts["engine"] == "insightface"
    assert facts["models"]
    assert facts["providers"] == ["CPUExecutionProvider"]
    assert facts["face"].startswith("the ")
    assert facts["identity_before"] < 0.4 < facts["identity"]
    assert facts["same_person"] is True
    assert facts["warnings"] == []
    assert facts["out"] == "swapped.png"


def test_a_warning_is_shown_and_is_no_error(eacps: Eacps) -> None:
    shown = eacps("faceswap", "--scene", "couple.png", "--character", "alice.png",
                  "--out", "swapped.png")  # fmt: skip
    assert shown.code == 0
    assert "2 faces in the scene" in " ".join(shown.out.split("warning")[1].split())


def test_the_image_says_what_made_it_and_that_its_face_is_synthetic(eacps: Eacps) -> None:
    arguments = ("faceswap", "--scene", "couple.png", "--character", "alice.png")
    assert eacps(*arguments, "--out", "swapped.png").code == 0
    with Image.open("swapped.png") as image:
        told = json.loads(image.info["eacps"])
        assert "compositeSynthetic" in image.info["XML:com.adobe.xmp"]
    assert told["synthetic"] == "synthetic face"
    assert told["face_engine"] == "insightface"
    assert "swapper.onnx" in told["face_models"]
    assert told["swap"]["assignment"] == 0


def test_a_visible_mark_is_drawn_where_the_setting_asks_for_it(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("faceswap", "--scene", "couple.png", "--character", "alice.png")
    eacps(*arguments, "--out", "plain.png")
    monkeypatch.setenv("EACPS_FACE_MARK", "visible")
    eacps(*arguments, "--out", "marked.png")
    corner = (slice(HEIGHT - 30, HEIGHT), slice(0, 100))
    assert (pixels("couple.png")[corner] == pixels("plain.png")[corner]).all()
    assert (pixels("plain.png")[corner] != pixels("marked.png")[corner]).any()


@pytest.mark.parametrize(
    ("options", "faces"),
    [
        (("--mapping", "order"), ("face 1 of 2", "face 2 of 2")),
        (("--mapping", "regions", "--mask", "right.png", "--mask", "left.png"),
         ("masked face 2 of 2", "masked face 1 of 2")),
        (("--mask", "right.png", "--mask", "left.png"),
         ("masked face 2 of 2", "masked face 1 of 2")),
        (("--mapping", "similarity"), ("face 2 of 2", "face 1 of 2")),
    ],
    ids=["order", "regions", "as many masks as characters", "similarity"],
)  # fmt: skip
def test_several_characters_go_where_the_mapping_says(
    eacps: Eacps, options: tuple[str, ...], faces: tuple[str, str]
) -> None:
    shown = eacps("faceswap", "--scene", "couple.png", "--character", "carol.png",
                  "--character", "bob.png", "--out", "both.png", "--json", *options)  # fmt: skip
    first, second = faces
    assert json.loads(shown.out)["face"] == (
        f"character 1: {first} from the left, character 2: {second} from the left"
    )


def test_a_rotated_photo_comes_out_upright_and_a_grey_one_may_be_used(eacps: Eacps) -> None:
    upright = Image.open("couple.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).convert("L").save("phone.png", exif=exif)
    shown = eacps("faceswap", "--scene", "phone.png", "--character", "alice.png",
                  "--mask", "left.png", "--out", "swapped.png")  # fmt: skip
    # The synthetic detector knows faces by their colours: what is grey has none.
    assert "(no_face)" in shown.err
    upright.rotate(90, expand=True).save("phone.png", exif=exif)
    assert eacps("faceswap", "--scene", "phone.png", "--character", "alice.png",
                 "--mask", "left.png", "--out", "swapped.png").code == 0  # fmt: skip
    assert Image.open("swapped.png").size == (WIDTH, HEIGHT)
    assert changed("couple.png", "swapped.png", LEFT)


def broken_files() -> None:
    Path("broken.png").write_bytes(Path("couple.png").read_bytes()[:900])
    Path("empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save("tiny.png")
    Image.new("L", (WIDTH, HEIGHT)).save("black.png")
    Path("text.png").write_text("no image")
    corner = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    corner[:40, :40] = 255
    Image.fromarray(corner).save("corner.png")
    Path("folder.png").mkdir()


USUAL = {"scene": "couple.png", "character": "alice.png", "out": "swapped.png"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"scene": "gone.png"}, "There is no file gone.png. Correct --scene."),
        ({"scene": "."}, "There is no file"),
        ({"scene": "n" * 300}, "There is no file"),
        ({"character": "gone.png"}, "Correct --character."),
        ({"mask": "gone.png"}, "Correct --mask."),
        ({"scene": "broken.png"}, "The scene could not be read as an image"),
        ({"scene": "empty.png"}, "The scene could not be read as an image"),
        ({"scene": "text.png"}, "The scene could not be read as an image"),
        ({"character": "text.png"}, "The character could not be read as an image"),
        ({"mask": "text.png"}, "The mask could not be read as an image"),
        ({"scene": "tiny.png"}, "The scene is 1x1 pixels"),
        ({"scene": "nobody.png"}, "(no_face): No face is found in the scene."),
        ({"character": "nobody.png"}, "(no_face_in_character)"),
        ({"mask": "black.png"}, "(empty_mask)"),
        ({"mask": "corner.png"}, "(no_face_in_mask)"),
        ({"out": "swapped.jpg"}, "Use an --out that ends in .png."),
        ({"out": "couple.png"}, "would overwrite the picture of --scene"),
        ({"out": "./alice.png"}, "would overwrite the picture of --character"),
        ({"out": "folder.png"}, "folder.png cannot be written"),
        ({"out": "couple.png/swapped.png"}, "cannot be written"),
        ({"out": f"{'n' * 300}.png"}, "cannot be written"),
        ({"scene": ""}, "There is no file"),
        ({"task-ids": "3"}, "--task-ids requires --tasks"),
        ({"tasks": "tasks.json"}, "cannot be combined with --tasks"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    eacps: Eacps, other: Mapping[str, str], words: str
) -> None:
    broken_files()
    options = {**USUAL, **other}
    before = sorted(Path().rglob("*"))
    shown = eacps("faceswap", *(word for n, v in options.items() for word in (f"--{n}", v)))
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EACPS_FACE_LICENSE_ACCEPTED", "false", "(licence_not_accepted)"),
        ("EACPS_INSWAPPER", "gone.onnx", "(model_missing)"),
        ("EACPS_FACE_BOOSTS", "[100]", "EACPS_FACE_BOOSTS"),
        ("EACPS_C2PA_KEY", "key.pem", "EACPS_C2PA_CERTIFICATE"),
        ("EACPS_FACE_WEIGHTS", '{"beauty": 1}', "EACPS_FACE_WEIGHTS names unknown metrics"),
    ],
)
def test_an_engine_that_cannot_be_used_says_what_to_do(
    eacps: Eacps, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    shown = eacps("faceswap", "--scene", "couple.png", "--character", "alice.png", "--out", "o.png")
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1


def test_characters_and_a_scene_are_asked_for(eacps: Eacps) -> None:
    assert "--character" in eacps("faceswap", "--scene", "couple.png", "--out", "o.png").err
    assert "--scene" in eacps("faceswap", "--character", "alice.png", "--out", "o.png").err


def export(*tasks: Mapping[str, Any]) -> Path:
    path = Path("tasks.json")
    path.write_text(json.dumps(list(tasks)))
    return path


def task(number: int, **data: Any) -> dict[str, Any]:
    usual = {"image": "couple.png", "reference": "alice.png", "route": "face swap"}
    return {"id": number, "data": {**usual, **data}}


def report(folder: str = "swapped") -> Report:
    lines = (Path(folder) / REPORT).read_text().splitlines()
    records = {record["name"]: record for record in map(json.loads, lines)}
    assert len(records) == len(lines)
    return records


def box(centre: tuple[int, int]) -> dict[str, Any]:
    """A rectangle drawn over a face in Label Studio."""
    x, y = centre
    value = {"x": (x - 100) / WIDTH * 100, "y": (y - 100) / HEIGHT * 100, "rotation": 0,
             "width": 200 / WIDTH * 100, "height": 200 / HEIGHT * 100}  # fmt: skip
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"type": "rectangle", "from_name": "where", "to_name": "image", **size, "value": value}


def test_an_export_is_swapped_task_by_task_and_a_failing_one_does_not_end_the_others(
    eacps: Eacps,
) -> None:
    export(
        task(1, image="nobody.png"),
        task(2, mask="left.png"),
        task(3, image="gone.png"),
        {**task(5), "annotations": [{"id": 1, "result": [box(RIGHT)]}]},
    )
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    assert shown.code == 1
    assert "✓ task-2.png" in shown.out
    assert "✗ task-3: The task's field `image`: There is no file" in shown.out
    found = report()
    assert found["task-1"]["error"]["code"] == "no_face"
    assert found["task-5"]["id"] == 5
    assert changed("couple.png", "swapped/task-2.png", LEFT)
    assert not changed("couple.png", "swapped/task-2.png", RIGHT)
    assert changed("couple.png", "swapped/task-5.png", RIGHT)
    assert not Path("swapped/task-1.png").exists()


def test_task_ids_choose_and_all_done_is_zero(eacps: Eacps) -> None:
    export(*(task(number, mask="left.png") for number in range(1, 8)))
    shown = eacps("faceswap", "--tasks", "tasks.json", "--task-ids", "1,5-6", "--out", "swapped")
    assert shown.code == 0
    assert sorted(report()) == ["task-1", "task-5", "task-6"]
    missing = eacps("faceswap", "--tasks", "tasks.json", "--task-ids", "9", "--out", "swapped")
    assert "has no task 9" in missing.err
    assert "Correct --tasks" in eacps("faceswap", "--tasks", "no.json", "--out", "swapped").err


def test_other_tasks_are_left_out_and_unlabelled_ones_with_a_character_are_not(
    eacps: Eacps,
) -> None:
    export(
        task(1, route="edit", prompt="add a hat"),
        task(2, route="", mask="left.png"),
        {"id": 3, "data": {"image": "couple.png", "prompt": "add a hat"}},
    )
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    assert shown.code == 0
    assert "Skipped 2 of 3 tasks" in shown.err
    assert list(report()) == ["task-2"]
    export(task(1, route="edit", prompt="add a hat"))
    assert (
        "None of 1 tasks is labelled"
        in eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped").err
    )


def test_json_lines_are_the_report(eacps: Eacps) -> None:
    export(task(1, mask="left.png"), task(2, image="nobody.png"))
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped", "--json")
    assert {
        record["name"]: record for record in map(json.loads, shown.out.splitlines())
    } == report()


def stamps() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path("swapped").glob("*.png")}


def test_what_is_done_is_kept_and_what_changed_or_failed_is_done_again(eacps: Eacps) -> None:
    export(task(1, mask="left.png"), task(2, mask="left.png"), task(3, image="late.png"))
    command = ("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    assert eacps(*command).code == 1
    before = stamps()

    Path("late.png").write_bytes(Path("couple.png").read_bytes())
    export(task(1, mask="left.png"), task(2, mask="right.png"), task(3, image="late.png"))
    shown = eacps(*command)
    assert shown.code == 0
    assert "Kept 1 of 3 tasks that are already finished." in shown.err
    assert stamps()["task-1.png"] == before["task-1.png"]
    assert changed("couple.png", "swapped/task-2.png", RIGHT)
    assert set(report()) == {"task-1", "task-2", "task-3"}

    # The mask keeps its name, and has another content.
    mask("right.png", LEFT)
    eacps(*command)
    assert stamps()["task-1.png"] == before["task-1.png"]
    assert not changed("couple.png", "swapped/task-2.png", RIGHT)


def test_an_image_that_is_no_longer_the_tasks_is_not_left_behind(eacps: Eacps) -> None:
    command = ("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    export(task(1, mask="left.png"))
    eacps(*command)
    export(task(1, image="nobody.png"))
    assert eacps(*command).code == 1
    assert not list(Path("swapped").glob("*.png"))


def test_a_line_that_a_crash_cut_off_is_mended(eacps: Eacps) -> None:
    command = ("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    export(task(1, mask="left.png"), task(2, mask="left.png"))
    eacps(*command)
    path = Path("swapped") / REPORT
    path.write_text(path.read_text()[:-40])
    assert eacps(*command).code == 0
    assert set(report()) == {"task-1", "task-2"}


def test_ctrl_c_loses_nothing_that_is_done() -> None:
    export(*(task(number, mask="left.png") for number in range(1, 5)))
    settings = load_settings()
    tasks = tasks_of_file(settings, Path("tasks.json"), "")
    done: list[str] = []

    def impatient(record: Mapping[str, Any]) -> None:
        done.append(record["name"])
        if len(done) == 2:
            raise KeyboardInterrupt

    console = Console(quiet=True)
    with pytest.raises(KeyboardInterrupt):
        swap_tasks(settings, tasks, Path("swapped"), console, impatient)
    assert list(report()) == done == ["task-1", "task-2"]
    before = stamps()
    swap_tasks(
        settings, tasks, Path("swapped"), console, lambda record: done.append(record["name"])
    )
    assert done == ["task-1", "task-2", "task-3", "task-4"]
    assert stamps().items() > before.items()


def test_a_folder_whose_files_the_tasks_read_is_refused(eacps: Eacps) -> None:
    Path("couple.png").rename("task-1.png")
    export(task(1, image="task-1.png"))
    content = Path("task-1.png").read_bytes()
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", ".")
    assert shown.code == 2
    assert "is the input of a task and would be overwritten" in shown.err
    assert Path("task-1.png").read_bytes() == content


@pytest.mark.usefixtures("face_models")
def test_the_free_engine_swaps_real_faces_in_a_process_without_torch(tmp_path: Path) -> None:
    face = Image.fromarray(skimage.data.astronaut()).crop((120, 0, 340, 260))
    face.save("astronaut.png")
    friend = Image.open(FACES_OF_FRIENDS).crop((420, 180, 680, 480))
    friend.convert("L").save("grey.jpg")
    script = """
import sys
from eacps.cli import main
sys.argv[1:] = ["faceswap", "--scene", "grey.jpg", "--character", "astronaut.png",
                "--out", "swapped.png", "--json"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"torch", "diffusers", "open_clip", "dbos", "label_studio_sdk"} & set(sys.modules)))
"""
    environment = {
        "PYTHONPATH": str(PACKAGE.parent),
        "PATH": "",
        "EACPS_FACE_ENGINE": "basic",
        "EACPS_FACE_BLENDS": "[1]",
        "EACPS_FACE_SHAPES": "[0.7]",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    first, loaded = done.stdout.splitlines()
    facts = json.loads(first)
    assert facts["engine"] == "basic"
    assert facts["identity"] > facts["identity_before"]
    assert facts["same_person"]
    assert loaded == "[]"
    assert (pixels("swapped.png")[0, :60] == pixels("grey.jpg")[0, :60]).all()


@pytest.mark.usefixtures("face_models")
def test_face_models_names_files_licences_and_origins(eacps: Eacps, tmp_path: Path) -> None:
    folder = tmp_path / "copied"
    folder.mkdir()
    for path in FACE_MODELS.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shown = eacps("face-models", "--out", str(folder))
    assert shown.code == 0
    assert "all 3 files exist" in shown.err
    assert shown.out.count("Apache-2.0") == 2
    assert shown.out.count("MIT") == 1
    assert "https://github.com/opencv/opencv_zoo" in shown.out


def test_face_models_says_when_its_folder_cannot_be_made(eacps: Eacps) -> None:
    Path("file").write_text("")
    shown = eacps("face-models", "--out", "file")
    assert shown.code == 2
    assert "EACPS_FACE_MODELS" in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_picture_of_somebody_is_not_overwritten_and_a_swap_is(eacps: Eacps) -> None:
    arguments = ("faceswap", "--scene", "couple.png", "--character", "alice.png", "--out")
    Path("mine.png").write_bytes(Path("couple.png").read_bytes())
    Path("link.png").symlink_to("mine.png")
    Path("notes.png").write_text("mine")
    before = {name: Path(name).read_bytes() for name in ("mine.png", "notes.png")}
    for out in ("mine.png", "link.png", "notes.png"):
        shown = eacps(*arguments, out)
        assert shown.code == 2
        assert f"{out} is in the way: eacps did not write it." in shown.err
    assert {name: Path(name).read_bytes() for name in before} == before
    assert Path("link.png").is_symlink()
    assert [eacps(*arguments, "swapped.png").code for _ in range(2)] == [0, 0]


def test_pictures_in_the_folder_of_an_export_are_left_alone(eacps: Eacps) -> None:
    command = ("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    Path("swapped").mkdir()
    Path("swapped/task-1.png").write_bytes(Path("bob.png").read_bytes())
    export(task(1, mask="left.png"), task(2, mask="left.png"))
    shown = eacps(*command)
    assert shown.code == 1
    assert "task-1.png is in the way: eacps did not write it" in shown.out
    assert Path("swapped/task-1.png").read_bytes() == Path("bob.png").read_bytes()

    # A swap that was touched up is somebody's work, also if the task now fails.
    Path("swapped/task-2.png").write_bytes(Path("alice.png").read_bytes())
    for changed_task in (task(2, mask="right.png"), task(2, image="nobody.png")):
        export(changed_task)
        assert eacps(*command).code == 1
        assert Path("swapped/task-2.png").read_bytes() == Path("alice.png").read_bytes()
    Path("swapped/task-2.png").unlink()
    export(task(1), task(2, mask="right.png"))
    assert "✓ task-2.png" in eacps(*command).out


@pytest.mark.parametrize(
    "content", ["my notes", '{"mine": 1}\n', '["mine"]', '{"name": "task-1", "key": 1}\nmine\n']
)
def test_a_report_of_somebody_is_left_alone(eacps: Eacps, content: str) -> None:
    Path("swapped").mkdir()
    Path("swapped", REPORT).write_text(content)
    export(task(1, mask="left.png"))
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    assert shown.code == 2
    assert "not all of its lines are results of `eacps faceswap`" in shown.err
    assert Path("swapped", REPORT).read_text() == content
    assert [path.name for path in Path("swapped").iterdir()] == [REPORT]


def test_swaps_of_ids_that_look_alike_do_not_replace_each_other(eacps: Eacps) -> None:
    tasks = [{**task(1, mask="left.png"), "id": each} for each in ("a b", "a-b", "../a", "a.png")]
    export(*tasks)
    assert eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped").code == 0
    assert len(list(Path("swapped").glob("*.png"))) == 4
    assert {record["id"] for record in report().values()} == {"a b", "a-b", "../a", "a.png"}
    shown = eacps("faceswap", "--tasks", "tasks.json", "--out", "swapped")
    assert "Kept 4 of 4" in shown.err
