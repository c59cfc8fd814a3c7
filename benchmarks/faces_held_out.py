"""Benchmarks engine `basic` on faces that it was not tuned on.

Every near-frontal held-out face is swapped into every other held-out face. Two judges: SFace, which
the engine itself knows, and dlib, which it does not. Raw rows are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eacps.domain import Swap
from eacps.faces.basic import BasicEngine
from eacps.faces.paste import paste
from eacps.faces.selection import cosine
from tests.faces_gallery import Judge, Portrayed, development, face_models, held_out

DLIB_SAME_PERSON = 0.6
NAMES = {"held-out": held_out, "development": development}


def main() -> None:
    """Swap, judge, write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the raw results")
    parser.add_argument("--faces", choices=sorted(NAMES), default="held-out")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures to look at")
    arguments = parser.parse_args()
    engine = BasicEngine.open(face_models())
    rows = swaps(engine, NAMES[arguments.faces](engine), arguments.pictures)
    arguments.out.mkdir(parents=True, exist_ok=True)
    target = arguments.out / f"faces-{arguments.faces}.jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    show(rows)


def swaps(
    engine: BasicEngine, portrayed: Sequence[Portrayed], pictures: Path | None
) -> list[dict[str, Any]]:
    """One row per ordered pair of different people."""
    judge = Judge()
    known = {one.name: judge.embedding(one.picture, one.face) for one in portrayed}
    rows = []
    for source in track([one for one in portrayed if one.near_frontal], "characters"):
        character = engine.character(source.picture, source.face, source.name)
        for target in portrayed:
            if target.person == source.person:
                continue
            patch = engine.patch(target.picture, target.face, character, Swap())
            scene = target.picture.copy()
            paste(scene, patch)
            after = engine.described(scene, target.face)
            theirs = judge.embedding(scene, target.face)
            changed = (scene != target.picture).any(axis=2)
            height, width = patch.alpha.shape
            changed[patch.y : patch.y + height, patch.x : patch.x + width] &= patch.alpha == 0
            rows.append(
                {
                    "character": source.name,
                    "scene": target.name,
                    "near_frontal": target.near_frontal,
                    "yaw": round(target.face.yaw or 0.0, 1),
                    "side": round(target.face.side),
                    "sface_before": round(cosine(source.face, target.face), 3),
                    "sface_after": round(cosine(source.face, after), 3),
                    "dlib_before": _distance(known[source.name], known[target.name]),
                    "dlib_after": _distance(known[source.name], theirs),
                    "changed_outside": int(changed.sum()),
                }
            )
            if pictures:
                _save(pictures, source, target, scene)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print medians, shares and worst cases."""
    table = Table("targets", "pairs", "SFace", "least", "over 0.363", "dlib", "most", "under 0.6")
    for title, near in (("near-frontal", True), ("turned further", False)):
        part = [row for row in rows if row["near_frontal"] == near]
        if not part:
            continue
        sface = np.array([row["sface_after"] for row in part])
        dlib = np.array([row["dlib_after"] for row in part])
        before = [np.median([row[f"{name}_before"] for row in part]) for name in ("sface", "dlib")]
        table.add_row(
            title,
            str(len(part)),
            f"{before[0]:.2f} -> {np.median(sface):.2f}",
            f"{sface.min():.2f}",
            f"{np.mean(sface > BasicEngine.same_person):.0%}",
            f"{before[1]:.2f} -> {np.median(dlib):.2f}",
            f"{dlib.max():.2f}",
            f"{np.mean(dlib < DLIB_SAME_PERSON):.0%}",
        )
    Console().print(table)


def _distance(one: Any, other: Any) -> float:
    return round(float(np.linalg.norm(one - other)), 3)


def _save(folder: Path, source: Portrayed, target: Portrayed, scene: Any) -> None:
    from PIL import Image

    margin = 0.5 * target.face.side
    left, top, right, bottom = (float(edge) for edge in target.face.box)
    box = (int(left - margin), int(top - margin), int(right + margin), int(bottom + margin))
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene).crop(box).save(folder / f"{source.name}--{target.name}.png")


if __name__ == "__main__":
    main()
