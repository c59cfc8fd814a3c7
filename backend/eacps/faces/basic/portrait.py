"""A cropped face, so that the cost of swaps does not depend on the size of its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eacps.faces.basic import occlusion
from eacps.faces.basic.landmarks import OVAL, Points, size_of
from eacps.faces.basic.raster import shape_of, shrunk_image
from eacps.faces.protocol import Field, Pixels

PAD = 0.5
"""Margin of a portrait, relative to the face's side."""

HAIR_SHADOW = 0.025
"""How far occlusions are dilated, to exclude the shadow of a character's hair."""

MIN_LEVEL = 64


@dataclass(frozen=True, eq=False)
class Portrait:
    """A character's face as an image pyramid, with its points and occlusions."""

    pixels: tuple[Pixels, ...]
    cover: Field
    points: Points

    def near(self, side: float) -> tuple[Pixels, float]:
        """The pyramid level whose face is at least this large, and its scale."""
        level = np.floor(np.log2(max(size_of(self.points) / max(side, 1.0), 1.0)))
        chosen = self.pixels[int(min(level, len(self.pixels) - 1))]
        return chosen, chosen.shape[1] / self.pixels[0].shape[1]


def portrait(picture: Pixels, mesh: Points) -> Portrait:
    """Prepare a character's face for swaps."""
    corner, pixels = cut_out(picture, mesh, PAD)
    points = mesh - np.array([*corner, 0])
    levels = [pixels]
    while min(shape_of(levels[-1])) > MIN_LEVEL:
        height, width = shape_of(levels[-1])
        levels.append(shrunk_image(levels[-1], (height // 2, width // 2)))
    cover = occlusion.covered(pixels, points, size_of(points), HAIR_SHADOW)
    return Portrait(tuple(levels), cover, points)


def cut_out(picture: Pixels, mesh: Points, pad: float) -> tuple[tuple[int, int], Pixels]:
    """The corner (x, y) and the pixels of the rectangle around a face."""
    oval, margin = mesh[list(OVAL), :2], pad * size_of(mesh)
    height, width = shape_of(picture)
    left, top = (oval.min(0) - margin).clip(0, [width - 1, height - 1]).astype(int)
    right, bottom = np.ceil(oval.max(0) + margin).clip([left + 1, top + 1], [width, height])
    part = picture[top : int(bottom), left : int(right)]
    return (int(left), int(top)), np.ascontiguousarray(part)
