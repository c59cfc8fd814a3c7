"""The swap itself: the character's face, warped, lit and trimmed to the scene's face."""

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
"""Light, masks and the map are computed at this size of face at most; pixels at full size."""

PAD = 0.25
FOREHEAD = 0.45
"""How far the swap reaches from the brows to the hair line."""

FEATHER = 0.10
"""Width of the soft edge, in sides of the face; it lies inside the face."""

SKIN_EDGE = 0.05
"""What lies nearer to the face's edge, in sides of the face, may be hair or background."""

MIDDLE = 0.3
"""From this depth inside the face on it is lit as its middle is."""

RIM = 0.012
"""By how much covers are grown, in sides of the face: hair must keep no rim of the old skin."""

EYE_OPEN = (0.22, 0.32)
"""From the first ratio of height to width on an eye may look somewhere; from the second it does."""

LASHES = 0.010
"""The eye's edge, in sides of the face: lashes and lids are the character's."""

MOUTH_OPEN, MOUTH_CLOSED = 0.12, 0.06
"""Openings of a mouth that shows teeth, and of one that does not."""

LEAST_PIXELS = 16.0


def swapped(scene: Pixels, mesh: Points, character: Portrait, shape: float) -> Patch:
    """The patch that puts the character's face in the place of the face with this mesh."""
    (left, top), region = cut_out(scene, mesh, PAD)
    local = mesh - np.array([left, top, 0])
    height, width = shape_of(region)
    scale = min(1.0, WORK_SIDE / max(size_of(local), 1.0))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    target = local * np.array([small[1] / width, small[0] / height, scale])
    work = _Work(shrunk_image(region, small), target, character, shape)
    alpha = work.alpha()
    if alpha.sum() < LEAST_PIXELS:
        raise FaceError(
            "The face in the scene is too small, covered, or turned too far away to be swapped.",
            hint="Choose a face that looks more into the camera, or a larger image.",
            code="profile_face",
        )
    return Patch(left, top, _full_size(work, (height, width)), enlarged(alpha, (height, width)))


def _full_size(work: _Work, shape: tuple[int, int]) -> Pixels:
    """The lit face: smooth fields are enlarged, pixels come from the character's own picture."""
    lit = work.lit()
    if shape == work.shape:
        return to_pixels(lit)
    picture, factor = work.character.near(size_of(work.target) * shape[1] / work.shape[1])
    face = sampled(picture, _scaled(enlarged(work.places, shape), factor))
    return to_pixels(face + enlarged(lit - work.face, shape))


def _scaled(places: Field, factor: float) -> Field:
    """Places in the same picture at another size: the pixels' centres correspond."""
    return ((places + 0.5) * factor - 0.5).astype(np.float32)


class _Work:
    """One swap at working size: both faces in the place where the new one will be."""

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
        # What stays of the target's eyes and mouth must fit where the new ones will be.
        self.own = sampled(scene, warp.backward_map(self.goal, target, kept, self.shape))
        self.region = filled(self.shape, outline(target, FOREHEAD))
        self.cover = np.maximum(
            sampled(character.cover, self.places),
            occlusion.covered(scene, target, self.side, RIM),
        )

    def alpha(self) -> Field:
        """How strongly the swapped face replaces the scene, pixel by pixel."""
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
        """What is between open lids: it stays the target's."""
        kept = np.zeros(self.shape, dtype=np.float32)
        low, high = EYE_OPEN
        for eye, lids in zip(EYES, LIDS, strict=True):
            wide = np.clip((ratio(self.target, *lids) - low) / (high - low), 0, 1)
            kept = np.maximum(kept, wide * filled(self.shape, self.goal[list(eye)]))
        return shrunk(kept.astype(np.float32), LASHES * self.side)

    def _teeth(self) -> Field:
        """An open mouth's inside: it stays the target's where the character's is closed."""
        if opening(self.target) < MOUTH_OPEN or opening(self.character.points) > MOUTH_CLOSED:
            return np.zeros(self.shape, dtype=np.float32)
        return filled(self.shape, self.goal[list(MOUTH)])
