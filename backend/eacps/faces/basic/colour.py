"""Transfers the light and colour of a scene to a face."""

from __future__ import annotations

import cv2
import numpy as np

from eacps.faces.basic.raster import blurred
from eacps.faces.protocol import Field

REACH = 0.18
"""The assumed smoothness of the scene's light, relative to the face's side."""

SHARE = 0.7
"""The share of the scene's uneven light that the face's centre gets; its edge gets all."""

DARKEST = 8.0
"""Added to both sides of a ratio of pixels, to not amplify noise in black."""

RATIO = (0.3, 3.0)
CONTRAST = (0.75, 1.35)
"""Limits on the change of brightness and contrast."""

KNEE = 225.0
"""Brighter pixels are compressed so that none exceeds white."""

GREY = (3.0, 9.0)
"""Mean distance from grey (LAB): below the first a face is grey, above the second coloured."""


def lab(pixels: Field) -> Field:
    """Convert RGB in 0..255 to LAB."""
    colours = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(colours, dtype=np.float32)


def rgb(colours: Field) -> Field:
    """Convert LAB to RGB in 0..255."""
    pixels = cv2.cvtColor(colours.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(pixels, dtype=np.float32) * 255


def relit(face: Field, scene: Field, skin: Field, inner: Field, side: float) -> Field:
    """Relight the face's RGB pixels like the scene's face at the same place.

    Light is multiplicative, so it is estimated as the smoothed ratio of both. `skin` weights the
    compared pixels; `inner` is 1 in the centre of the face and 0 at its edge.
    """
    face, scene = face + DARKEST, scene + DARKEST
    face = _with_contrast(face, scene, skin)
    overall = _mean(scene, skin) / _mean(face, skin)
    local = smooth(scene, skin, REACH * side) / smooth(face, skin, REACH * side)
    share = (1 - (1 - SHARE) * inner)[..., None]
    ratio = overall * (local / overall) ** share
    lit = face * np.clip(ratio, *RATIO) - DARKEST
    return _with_hue(_unclipped(lit.clip(0, None)), scene - DARKEST, skin)


def smooth(values: Field, weight: Field, reach: float) -> Field:
    """A weighted blur, which tends to the weighted mean far from all weights."""
    mean = _mean(values, weight)
    total = blurred(weight, reach)[..., None]
    deviation = blurred((values - mean) * weight[..., None], reach)
    return np.asarray(mean + deviation / (total + 1e-2), dtype=np.float32)


def _with_contrast(face: Field, scene: Field, skin: Field) -> Field:
    """Adjust the face's contrast between light and dark skin to that of the scene."""
    spreads = []
    for pixels in (scene, face):
        light = np.log(pixels.mean(axis=2))
        mean = _mean(light[..., None], skin)[0]
        spreads.append(np.sqrt(_mean(((light - mean) ** 2)[..., None], skin)[0]) + 0.02)
    power = float(np.clip(spreads[0] / spreads[1], *CONTRAST))
    centre = _mean(face, skin)
    return np.asarray(centre * (face / centre) ** power, dtype=np.float32)


def _unclipped(lit: Field) -> Field:
    """Compress highlights into 0..255, because clipping would change their hue."""
    brightest = np.maximum(lit.max(axis=2, keepdims=True), 1.0)
    room = 255 - KNEE
    dimmed = KNEE + room * (1 - np.exp(-(brightest - KNEE) / room))
    return np.asarray(lit * np.where(brightest > KNEE, dimmed / brightest, 1), dtype=np.float32)


def _with_hue(lit: Field, scene: Field, skin: Field) -> Field:
    """Match the skin's colour to the scene's, for light and dark parts; grey in a grey photo."""
    own, theirs = lab(lit), lab(scene)
    chroma = np.linalg.norm(_mean(theirs, skin)[1:])
    colour = np.clip((chroma - GREY[0]) / (GREY[1] - GREY[0]), 0, 1)
    expected, wanted = _hue_by_light(own, skin), _hue_by_light(theirs, skin)
    light = own[..., :1].clip(*_shared_range(own[..., 0][skin > 0.5], theirs[..., 0][skin > 0.5]))
    shift = wanted[0] - expected[0] + (wanted[1] - expected[1]) * light
    # Parts darker than all skin, such as stubble, are also less colourful.
    hue = own[..., 1:] + shift * np.clip(own[..., :1] / np.maximum(light, 1), 0, 1)
    return rgb(np.concatenate([own[..., :1], hue * colour], axis=2))


def _shared_range(one: Field, other: Field) -> tuple[float, float]:
    """The range of lightness in which two skins are comparable, without stubble and highlights."""
    if not len(one):
        return 0.0, 100.0
    (low, high), (other_low, other_high) = (np.percentile(part, (10, 95)) for part in (one, other))
    low = max(low, other_low)
    return float(low), float(max(low, min(high, other_high)))


def _hue_by_light(colours: Field, skin: Field) -> tuple[Field, Field]:
    """Linear regression of the skin's two colours on its lightness: intercept and slope."""
    mean = _mean(colours, skin)
    rest = colours - mean
    spread = _mean(rest[..., :1] ** 2, skin) + 4.0
    slope = _mean(rest[..., :1] * rest[..., 1:], skin) / spread
    return mean[1:] - slope * mean[0], slope


def _mean(values: Field, weight: Field) -> Field:
    total = float(weight.sum()) + 1e-6
    return np.asarray((values * weight[..., None]).sum((0, 1)) / total + 1e-6)
