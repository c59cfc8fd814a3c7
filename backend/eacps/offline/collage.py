"""`eacps collage`: the best candidate of each round side by side, with seed and score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError

from eacps.artifacts import MissingArtifactError, open_store
from eacps.domain import Candidate, SearchResult, from_json
from eacps.errors import SettingsError
from eacps.files import write_atomically
from eacps.offline.output import DATA_FOLDER, STEM, json_object, require_replaceable
from eacps.offline.run import at_home
from eacps.offline.tt_scale_flux_output import rounds_of, seed_of
from eacps.settings import Settings

FILE_NAME: Final = "collage.png"
MADE_BY: Final = "eacps collage"
_SOFTWARE: Final = 0x0131
"""The EXIF tag of the program that made a picture."""

MOST_ROWS: Final = 100
COLUMNS: Final = 8
TILE: Final = 224
GAP: Final = 12
FRAME: Final = 4
TEXT: Final = 14
LINE: Final = 20
TITLE: Final = 18
PAPER, INK, MUTED, BEST = "white", "#1f2937", "#6b7280", "#15803d"


@dataclass(frozen=True)
class Tile:
    """A picture and its caption."""

    picture: Image.Image
    caption: Sequence[str]
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A task: its instruction and the best candidate of each round."""

    title: str
    tiles: Sequence[Tile]


def write_collage(folder: Path, file: Path | None, settings: Settings) -> Path:
    """Write the collage of a folder of results; returns its path."""
    target = file or folder / FILE_NAME
    kind = Image.registered_extensions().get(target.suffix.lower())
    if kind is None:
        raise SettingsError(
            f"{target} is not an image file.", hint="Use an --out that ends in .png."
        )
    require_replaceable(target, _is_collage)
    rows = rows_of(folder, settings)
    if len(rows) > MOST_ROWS:
        raise SettingsError(
            f"{folder} contains {len(rows)} tasks; a collage shows at most {MOST_ROWS}.",
            hint="Pass the folder of one task.",
        )
    content = BytesIO()
    try:
        drawn(rows).save(content, kind, exif=_mark())
        write_atomically(target, content.getvalue())
    except OSError as error:
        raise SettingsError(
            f"{target} cannot be written: {error.strerror or error}.", hint="Choose another --out."
        ) from None
    return target


def _mark() -> Image.Exif:
    """Metadata by which a collage is recognised, so that the next one may replace it."""
    mark = Image.Exif()
    mark[_SOFTWARE] = MADE_BY
    return mark


def _is_collage(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return str(image.getexif().get(_SOFTWARE)) == MADE_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def rows_of(folder: Path, settings: Settings) -> list[Row]:
    """The rows of a folder with results of ours or of tt-scale-flux, or of its subfolders."""
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder}.", hint="Correct DIR.")
    folder = folder.resolve()
    rows = _rows(folder, settings) or [
        row for inner in _folders(folder) for row in _rows(inner, settings)
    ]
    if not rows:
        raise SettingsError(
            f"{folder} contains no results.",
            hint="Pass a folder that `eacps run` or tt-scale-flux wrote.",
        )
    return rows


def drawn(rows: Sequence[Row]) -> Image.Image:
    """Draw the rows below each other."""
    columns = max(min(len(row.tiles), COLUMNS) for row in rows)
    width = GAP + columns * (TILE + GAP)
    pages = [_drawn_row(row, width) for row in rows]
    sheet = Image.new("RGB", (width, GAP + sum(page.height for page in pages)), PAPER)
    top = GAP
    for page in pages:
        sheet.paste(page, (0, top))
        top += page.height
    return sheet


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key in natural order: task-2 before task-10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _rows(folder: Path, settings: Settings) -> list[Row]:
    own = folder.with_name(f"{folder.name}.json")
    reports = [own] if own.is_file() else sorted(folder.glob("*.json"), key=_natural)
    rows = [_own_row(path, settings) for path in reports]
    return [row for row in rows if row] or _their_rows(folder)


def _own_row(report: Path, settings: Settings) -> Row | None:
    content = json_object(report)
    if "candidates" not in content:
        return None
    try:
        result = from_json(SearchResult, content)
    except ValidationError:
        return None
    images = report.with_suffix("")
    source = _source(report.parent, result.task.image, settings)
    tiles = [Tile(source, ("source",))] if source else []
    for number, candidates in rounds_of(result):
        best = candidates[0]
        picture = _opened(images / f"{best.id}.png")
        if picture:
            score = "not judged" if best.potential is None else f"score {best.potential:.3f}"
            caption = (f"round {number}, {_origin(best)}", score)
            tiles.append(Tile(picture, caption, best is result.best))
    return Row(result.task.instruction, tiles) if tiles else None


def _origin(candidate: Candidate) -> str:
    swap = candidate.trial.swap
    return swap.words if swap else f"seed {seed_of(candidate.trial)}"


def _source(folder: Path, name: str, settings: Settings) -> Image.Image | None:
    if not (folder / DATA_FOLDER).is_dir():
        return None
    try:
        return Image.open(BytesIO(open_store(at_home(settings, folder)).get(name))).convert("RGB")
    except (MissingArtifactError, OSError):
        return None


def _their_rows(folder: Path) -> list[Row]:
    groups: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.json"):
        match = STEM.fullmatch(path.stem)
        if match:
            prompt = f"{match['words']}_{match['hash']}"
            groups.setdefault(prompt, []).append((int(match["round"]), path))
    rows = [_their_row(sorted(groups[prompt])) for prompt in sorted(groups)]
    return [row for row in rows if row.tiles]


def _their_row(rounds: Sequence[tuple[int, Path]]) -> Row:
    scores = {path: _score(json_object(path)) for _, path in rounds}
    highest = max((score for score in scores.values() if score is not None), default=None)
    tiles = []
    for number, path in rounds:
        picture = _opened(path.with_suffix(".png"))
        score = scores[path]
        if picture:
            seed = path.stem.rpartition("@")[2]
            told = "no score" if score is None else f"score {score:.3f}"
            best = score is not None and score == highest
            tiles.append(Tile(picture, (f"round {number}, seed {seed}", told), best))
    prompt = json_object(rounds[0][1]).get("prompt", rounds[0][1].stem)
    return Row(str(prompt), tiles)


def _score(facts: Mapping[str, Any]) -> float | None:
    """The score, which is a number, or a number with an explanation."""
    found = facts.get("best_score")
    if isinstance(found, dict):
        found = found.get("score")
    return float(found) if isinstance(found, (int, float)) else None


def _opened(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def _drawn_row(row: Row, width: int) -> Image.Image:
    pictures = [_fitted(tile.picture) for tile in row.tiles]
    lines = max(len(tile.caption) for tile in row.tiles)
    tallest = max(picture.height for picture in pictures)
    pitch = tallest + 3 * FRAME + lines * LINE + GAP
    band = TITLE + GAP
    height = band + -(-len(pictures) // COLUMNS) * pitch + GAP
    page = Image.new("RGB", (width, height), PAPER)
    pencil = ImageDraw.Draw(page)
    _write(pencil, (GAP, 0), row.title, TITLE, INK, width - 2 * GAP)
    for index, (tile, picture) in enumerate(zip(row.tiles, pictures, strict=True)):
        left = GAP + index % COLUMNS * (TILE + GAP)
        top = band + index // COLUMNS * pitch
        if tile.best:
            corner = (left + picture.width + 2 * FRAME - 1, top + picture.height + 2 * FRAME - 1)
            pencil.rectangle(((left, top), corner), BEST)
        page.paste(picture, (left + FRAME, top + FRAME))
        last = f"{tile.caption[-1]}, best" if tile.best else tile.caption[-1]
        for number, words in enumerate([*tile.caption[:-1], last]):
            place = (left + FRAME, top + tallest + 3 * FRAME + number * LINE)
            _write(pencil, place, words, TEXT, BEST if tile.best else MUTED, TILE - 2 * FRAME)
    return page


def _fitted(picture: Image.Image) -> Image.Image:
    scale = (TILE - 2 * FRAME) / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _write(
    pencil: ImageDraw.ImageDraw,
    place: tuple[int, int],
    words: str,
    size: int,
    colour: str,
    room: int,
) -> None:
    """Write a line of text, truncated with dots if it is too long."""
    font = ImageFont.load_default(size)
    line = " ".join(words.split())
    if font.getlength(line) > room:
        while line and font.getlength(f"{line}...") > room:
            line = line[:-1]
        line = f"{line.rstrip()}..."
    pencil.text(place, line, colour, font)
