"""`eacps collage`: what is seen in the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

from eacps.domain import Candidate, EditTask, Noise, SearchPlan, SearchResult, Trial, to_json
from eacps.offline.collage import BEST, COLUMNS, GAP, TILE

GREEN = ImageColor.getrgb(BEST)
COLOURS = [(200, 0, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


def has(picture: Image.Image, colour: tuple[int, ...]) -> bool:
    colours = picture.getcolors(picture.width * picture.height)
    assert colours is not None
    return colour in {found for _, found in colours}


def columns(picture: Image.Image) -> list[Image.Image]:
    """The picture cut into its tiles' columns."""
    edges = range(GAP // 2, picture.width - GAP, TILE + GAP)
    return [picture.crop((left, 0, left + TILE + GAP, picture.height)) for left in edges]


def candidate(number: int, potential: float, search_round: int) -> Candidate:
    trial = Trial(f"c{number}", Noise(number), round=search_round)
    return Candidate(trial, "a.png", potential=potential)


def own_results(folder: Path, name: str, candidates: list[Candidate]) -> None:
    best_first = sorted(candidates, key=lambda one: -(one.potential or 0))
    task = EditTask("a.png", f"edit {name}", plan=SearchPlan())
    content = to_json(SearchResult(task, tuple(best_first), 1, 1.0))
    (folder / name).mkdir(parents=True)
    for one in candidates:
        colour = COLOURS[(int(one.id[1:]) - 1) % len(COLOURS)]
        Image.new("RGB", (16, 16), colour).save(folder / name / f"{one.id}.png")
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "best": "", **content}))


def their_results(folder: Path, scores: list[Any]) -> None:
    folder.mkdir(parents=True)
    for number, score in enumerate(scores, start=1):
        stem = folder / f"prompt@a_cat_hash@0a1b2c3d_i@{number}_s@{100 + number}"
        Image.new("RGB", (16, 16), COLOURS[number - 1]).save(f"{stem}.png")
        Path(f"{stem}.json").write_text(json.dumps({"prompt": "a cat", "best_score": score}))
    (folder / "config.json").write_text("{}")


def test_every_round_shows_its_best_and_the_best_of_all_is_framed(eacps: Any) -> None:
    rounds = [(1, 0.2, 0), (2, 0.4, 0), (3, 0.9, 1), (4, 0.5, 1)]
    own_results(Path("results"), "bear", [candidate(*facts) for facts in rounds])
    shown = eacps("collage", "results")
    assert shown.code == 0
    assert "results/collage.png" in shown.out.replace("\n", "")
    first, second = columns(Image.open("results/collage.png"))
    assert has(first, COLOURS[1])
    assert not has(first, COLOURS[0])
    assert not has(first, GREEN)
    assert has(second, COLOURS[2])
    assert not has(second, COLOURS[3])
    assert has(second, GREEN)


def test_results_of_tt_scale_flux_make_a_collage_too(eacps: Any) -> None:
    their_results(Path("output/flux"), [7.5, {"explanation": "fine", "score": 9.0}, 8])
    assert eacps("collage", "output/flux", "--out", "cat.jpg").code == 0
    parts = columns(Image.open("cat.jpg"))
    assert len(parts) == 3
    frame = [part.getpixel((GAP // 2 + 1, part.height // 2)) for part in parts]
    near = []
    for pixel in frame:
        assert isinstance(pixel, tuple)
        near.append(all(abs(a - b) < 24 for a, b in zip(pixel, GREEN, strict=True)))
    assert near == [False, True, False]


def test_a_folder_of_results_gets_a_row_for_each(eacps: Any) -> None:
    for name in ("task-10", "task-2"):
        their_results(Path("output") / name, [1.0])
    own_results(Path("both"), "task-10", [candidate(1, 0.2, 0)])
    own_results(Path("both"), "task-2", [candidate(2, 0.2, 0)])
    assert eacps("collage", "output").code == 0
    assert eacps("collage", "both").code == 0
    assert eacps("collage", "both/task-2", "--out", "one.png").code == 0
    both, one = Image.open("both/collage.png"), Image.open("one.png")
    assert Image.open("output/collage.png").height == both.height
    half = both.height // 2
    assert has(both.crop((0, 0, both.width, half)), COLOURS[1])
    assert has(both.crop((0, half, both.width, both.height)), COLOURS[0])
    assert has(one, COLOURS[1])
    assert not has(one, COLOURS[0])


def test_a_long_search_goes_on_in_the_next_line(eacps: Any) -> None:
    many = COLUMNS + 1
    own_results(Path("results"), "bear", [candidate(n, n / 10, n) for n in range(1, many + 1)])
    assert eacps("collage", "results").code == 0
    picture = Image.open("results/collage.png")
    assert len(columns(picture)) == COLUMNS
    below = columns(picture)[0].crop((0, picture.height // 2, TILE, picture.height))
    assert has(below, GREEN)


def test_captions_and_instructions_stay_inside_however_long_they_are(eacps: Any) -> None:
    own_results(Path("results"), "bear-" + 40 * "long", [candidate(1, 0.2, 0)])
    assert eacps("collage", "results").code == 0
    picture = Image.open("results/collage.png").convert("L")
    margin = picture.crop((picture.width - GAP // 2, 0, picture.width, picture.height))
    assert margin.getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "There is no folder nowhere"),
        (("empty",), "contains no results"),
        (("empty", "--out", "a.txt"), "is not an image file"),
        (("good", "--out", "gone/a.png"), "cannot be written"),
    ],
)
def test_what_makes_no_collage_is_said_in_one_line(
    eacps: Any, arguments: tuple[str, ...], words: str
) -> None:
    Path("empty").mkdir()
    Path("empty/other.json").write_text('{"candidates": 3}')
    Path("empty/broken.json").write_text("{")
    own_results(Path("good"), "bear", [candidate(1, 0.2, 0)])
    shown = eacps("collage", *arguments)
    assert shown.code == 2
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_a_collage_replaces_an_earlier_one_and_no_other_picture(eacps: Any, suffix: str) -> None:
    own_results(Path("results"), "bear", [candidate(1, 0.2, 0)])
    file = Path(f"results/collage.{suffix}")
    command = ("collage", "results", "--out", str(file))
    assert [eacps(*command).code for _ in range(2)] == [0, 0]
    Image.new("RGB", (16, 16), "red").save(file)
    before = file.read_bytes()
    for content in (before, b"my notes", b""):
        file.write_bytes(content)
        shown = eacps(*command)
        assert shown.code == 2
        assert f"collage.{suffix} is in the way: eacps did not write it." in shown.err
        assert file.read_bytes() == content
