"""Crops around faces: there and back without loss, in the scene's colours, with what lies in
front of the face."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eacps.faces.insightface.crop_blend import matched, soft_mask
from eacps.faces.insightface.crop_occlusion import occlusion
from eacps.faces.insightface.crops import alignment, bounds_of, cut, paste_back
from eacps.faces.protocol import Field, Pixels

ASTRONAUT = [[200.1, 101.8], [247.2, 102.6], [220.3, 124.7], [198.9, 143.2], [239.8, 143.9]]


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    from skimage.data import astronaut

    picture: Pixels = astronaut()
    return picture


@pytest.fixture(scope="module")
def points() -> Field:
    return np.array(ASTRONAUT, dtype=np.float32)


@pytest.fixture(scope="module")
def crop(portrait: Pixels, points: Field) -> Pixels:
    return cut(portrait, alignment(points, 256), 256)


def tinted(crop: Pixels, factors: tuple[float, float, float]) -> Pixels:
    result: Pixels = (crop * np.array(factors)).clip(0, 255).astype(np.uint8)
    return result


@pytest.mark.parametrize("side", [128, 256, 512, 896])
def test_the_face_lies_in_the_same_place_of_every_crop(points: Field, side: int) -> None:
    matrix = alignment(points, side)
    placed = (points @ matrix[:, :2].T + matrix[:, 2]) / side
    reference = alignment(points, 128)
    assert placed == pytest.approx((points @ reference[:, :2].T + reference[:, 2]) / 128, abs=1e-6)


@pytest.mark.parametrize(("side", "most"), [(128, 12.0), (256, 3.0), (512, 3.0)])
def test_a_crop_put_back_is_the_scene_again(
    portrait: Pixels, points: Field, side: int, most: float
) -> None:
    matrix = alignment(points, side)
    bounds = bounds_of(matrix, side, portrait)
    back = paste_back(cut(portrait, matrix, side), matrix, bounds)
    there = portrait[bounds.top : bounds.bottom, bounds.left : bounds.right]
    difference = np.abs(back.astype(int) - there)[20:-20, 20:-20]
    assert difference.mean() < most


def test_a_fine_pattern_is_averaged_and_not_sampled() -> None:
    scene = np.zeros((1200, 1200, 3), dtype=np.uint8)
    scene[::2] = 255
    face = np.array([[400, 500], [800, 500], [600, 720], [440, 950], [760, 950]], dtype=np.float32)
    small = cut(scene, alignment(face, 128), 128)
    assert np.ptp(small[8:-8, 8:-8].astype(int)) < 30


def test_a_crop_that_is_its_own_target_is_not_recoloured(crop: Pixels) -> None:
    alpha = soft_mask(256, 1)
    assert np.abs(matched(crop, crop, alpha).astype(int) - crop).max() <= 1


def test_a_slight_cast_is_taken_away_and_a_complexion_is_not(crop: Pixels) -> None:
    alpha = soft_mask(256, 1)
    inside = alpha > 0.9

    def mean(image: Any) -> Any:
        return image[inside].astype(float).mean(axis=0)

    cast = tinted(crop, (1.0, 1.0, 0.96))
    assert np.abs(mean(matched(cast, crop, alpha)) - mean(crop)).max() < 2
    dark = tinted(crop, (0.5, 0.45, 0.4))
    kept = np.abs(mean(matched(dark, crop, alpha)) - mean(dark)).max()
    assert kept < 0.3 * np.abs(mean(crop) - mean(dark)).max()


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("change", ["nothing", "complexion", "focus"])
def test_another_complexion_or_focus_is_no_occlusion(
    portrait: Pixels, points: Field, side: int, change: str
) -> None:
    import cv2

    target = cut(portrait, alignment(points, side), side)
    swaps = {
        "nothing": target,
        "complexion": tinted(target, (0.7, 0.6, 0.5)),
        "focus": np.asarray(cv2.GaussianBlur(target, (0, 0), side / 60), dtype=np.uint8),
    }
    hidden = occlusion(target, swaps[change])
    assert hidden.shape == (side, side)
    assert hidden[soft_mask(side, 1) > 0].mean() < 0.03


def test_what_a_swap_painted_over_is_an_occlusion(crop: Pixels) -> None:
    target = crop.copy()
    stick = (slice(100, 256), slice(182, 207))
    target[stick] = (40, 60, 160)
    hidden = occlusion(target, crop)
    assert hidden[130:190, 187:202].min() > 0.9
    assert hidden[60:200, 80:140].max() < 0.1


def test_the_soft_edge_is_as_wide_as_the_face_asks_but_not_wider_than_in_focus() -> None:
    def edge_in_scene(scale: float) -> float:
        row = soft_mask(512, scale)[256]
        return np.count_nonzero((row > 0.01) & (row < 0.99)) / 2 / scale

    small, large = edge_in_scene(4.0), edge_in_scene(0.25)
    assert 5 < small < 15
    assert large < 40
