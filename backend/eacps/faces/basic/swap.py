"""The swap: warps and relights the character's face, and masks occlusions."""

from __future__ import annotations

import numpy as np

from eacps.errors import FaceError
from eacps.faces.basic import colour, occlusion, warp
from eacps.faces.basic.landmarks import (
    EYES,
    LIDS,
    MOUTH,
    Points,
    opening,
    outline,
    ratio,
    size_of,
    yaw_degrees,
)
from eacps.faces.basic.portrait import Portrait, cut_out
from eacps.faces.basic.raster import (
    blurred,
    depth,
    enlarged,
    filled,
    sampled,
    shape_of,
    shrunk,
    shrunk_image,
    to_pixels,
)
from eacps.faces.protocol import Field, Patch, Pixels

WORK_SIDE = 320
"""Light, masks and the warp are computed at this size of the face; pixels at full size."""

PAD = 0.25
FOREHEAD = 0.45
"""How far the swap extends from the brows to the hairline."""

FEATHER = 0.10
"""Width of the soft edge inside the face, relative to the face's side."""

SKIN_EDGE = 0.05
"""Pixels closer to the face's edge, relative to its side, may be hair or background."""

MIDDLE = 0.3
"""From this depth on, the face is lit like its centre."""

RIM = 0.012
"""How far occlusions are dilated, relative to the face's side, to hide the old skin at hair."""

EYE_OPEN = (0.22, 0.32)
"""Ratios of height to width at which an eye starts to count as open, and fully does."""

LASHES = 0.010
"""The eye's edge, relative to the face's side: lashes and lids are taken from the character."""

MOUTH_OPEN, MOUTH_CLOSED = 0.12, 0.06
"""The openings of a mouth above which it shows teeth, and below which it does not."""

MIN_PIXELS = 16.0


def swapped(scene: Pixels, mesh: Points, character: Portrait, shape: float) -> Patch:
    """A patch that replaces the face with this mesh by the character's face."""
    (left, top), region = cut_out(scene, mesh, PAD)
    local = mesh - np.array([left, top, 0])
    height, width = shape_of(region)
    scale = min(1.0, WORK_SIDE / max(size_of(local), 1.0))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    target = local * np.array([small[1] / width, small[0] / height, scale])
    work = _Work(shrunk_image(region, small), target, character, shape)
    alpha = work.alpha()
    if alpha.sum() < MIN_PIXELS:
        raise FaceError(
            "The face in the scene is too small, covered, or turned too far away to be swapped.",
            hint="Choose a face that looks more into the camera, or a larger image.",
            code="profile_face",
        )
    return Patch(left, top, _full_size(work, (height, width)), enlarged(alpha, (height, width)))


def _full_size(work: _Work, shape: tuple[int, int]) -> Pixels:
    """The relit face at full size: enlarge smooth fields, and sample the character's picture."""
    lit = work.lit()
    if shape == work.shape:
        return to_pixels(lit)
    picture, factor = work.character.near(size_of(work.target) * shape[1] / work.shape[1])
    face = sampled(picture, _scaled(enlarged(work.places, shape), factor))
    return to_pixels(face + enlarged(lit - work.face, shape))


def _scaled(places: Field, factor: float) -> Field:
    """Convert positions to another size of the picture, with aligned pixel centres."""
    return ((places + 0.5) * factor - 0.5).astype(np.float32)


class _Work:
    """A swap at working size, with both faces warped to the place of the new one."""

    def __init__(self, scene: Pixels, target: Points, character: Portrait, shape: float) -> None:
        self.target, self.character = target, character
        self.side = size_of(target)
        self.shape = shape_of(scene)
        self.goal = warp.shaped(target, character.points, shape)
        frontal = min((target, character.points), key=lambda points: abs(yaw_degrees(points)))
        kept = warp.facing(self.goal, frontal)
        self.places = warp.backward_map(self.goal, character.points, kept, self.shape)
        picture, factor = character.near(self.side)
        self.face = sampled(picture, _scaled(self.places, factor))
        # The parts that are kept of the target's eyes and mouth must fit the new positions.
        self.own = sampled(scene, warp.backward_map(self.goal, target, kept, self.shape))
        self.region = filled(self.shape, outline(target, FOREHEAD))
        self.cover = np.maximum(
            sampled(character.cover, self.places),
            occlusion.covered(scene, target, self.side, RIM),
        )

    def alpha(self) -> Field:
        """The opacity of the swapped face per pixel."""
        ramp = np.clip(depth(self.region) / max(1.0, FEATHER * self.side), 0, 1)
        soft = ramp * ramp * (3 - 2 * ramp)
        return np.asarray(soft * (1 - self.cover), dtype=np.float32)

    def lit(self) -> Field:
        """The character's face in the scene's light, with the target's gaze and teeth."""
        skin = shrunk(self.region, SKIN_EDGE * self.side) * (1 - self.cover)
        skin = skin * (1 - occlusion.features(self.shape, self.goal, 0.03 * self.side))
        inner = np.clip(depth(self.region) / (MIDDLE * self.side), 0, 1)
        lit = colour.relit(self.face, self.own, skin, inner, self.side)
        kept = blurred(np.maximum(self._gaze(), self._teeth()), 0.012 * self.side)[..., None]
        return np.asarray(lit * (1 - kept) + self.own * kept, dtype=np.float32)

    def _gaze(self) -> Field:
        """Mask of the area between open lids, which is kept from the target."""
        kept = np.zeros(self.shape, dtype=np.float32)
        low, high = EYE_OPEN
        for eye, lids in zip(EYES, LIDS, strict=True):
            wide = np.clip((ratio(self.target, *lids) - low) / (high - low), 0, 1)
            kept = np.maximum(kept, wide * filled(self.shape, self.goal[list(eye)]))
        return shrunk(kept.astype(np.float32), LASHES * self.side)

    def _teeth(self) -> Field:
        """Mask of an open mouth's inside, kept if the character's mouth is closed."""
        if opening(self.target) < MOUTH_OPEN or opening(self.character.points) > MOUTH_CLOSED:
            return np.zeros(self.shape, dtype=np.float32)
        return filled(self.shape, self.goal[list(MOUTH)])
