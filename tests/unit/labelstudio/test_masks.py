from typing import Any

import numpy as np
import pytest

from eacps.errors import TaskError
from eacps.images import ImageLimits
from eacps.labelstudio.tasks.masks import draw_mask, mask_regions
from eacps.settings import Settings

SETTINGS = Settings(_env_file=None)
SIZE = (200, 100)


def region(kind: str, to_name: str = "img", **value: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "to_name": to_name,
        "original_width": SIZE[0],
        "original_height": SIZE[1],
        "value": value,
    }


def drawn(*shapes: dict[str, Any], size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    return np.asarray(draw_mask(shapes, size, ImageLimits())) > 0


def brush(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    from label_studio_sdk.converter.brush import mask2rle

    return region("brushlabels", rle=mask2rle(mask), format="rle", brushlabels=["Edit here"])


@pytest.mark.parametrize("kind", ["rectangle", "rectanglelabels"])
def test_a_rectangle_covers_its_percentages(kind: str) -> None:
    mask = drawn(region(kind, x=25, y=50, width=50, height=25, rotation=0))
    assert mask[60, 100]
    assert not mask[40, 100]
    assert not mask[60, 40]
    assert mask.mean() == pytest.approx(0.125, abs=0.02)


def test_a_rectangle_turns_around_its_corner_in_pixels() -> None:
    # Turned by 90 degrees clockwise, 100 px wide and 20 px high becomes 20 px wide and 100 high.
    mask = drawn(region("rectangle", x=50, y=0, width=50, height=20, rotation=90))
    rows, columns = np.where(mask)
    assert 78 <= columns.min() <= 82
    assert 98 <= columns.max() <= 101
    assert rows.max() >= 97


def test_an_ellipse_is_round_about_its_centre() -> None:
    mask = drawn(region("ellipselabels", x=50, y=50, radiusX=25, radiusY=50, rotation=0))
    assert mask[50, 100]
    assert not mask[5, 60]
    assert mask.sum() == pytest.approx(np.pi * 50 * 50, rel=0.05)


def test_a_polygon_follows_its_points() -> None:
    mask = drawn(region("polygonlabels", points=[[0, 0], [100, 0], [0, 100]]))
    assert mask[10, 10]
    assert not mask[90, 190]


def test_a_brush_stroke_comes_back_pixel_for_pixel() -> None:
    painted = np.zeros((100, 200), np.uint8)
    painted[20:40, 30:90] = 255
    assert (drawn(brush(painted)) == (painted > 0)).all()


def test_several_regions_are_united() -> None:
    left = region("rectangle", x=0, y=0, width=10, height=100)
    right = region("rectangle", x=90, y=0, width=10, height=100)
    mask = drawn(left, right)
    assert mask[50, 5]
    assert mask[50, 195]
    assert not mask[50, 100]


@pytest.mark.parametrize(
    "broken",
    [
        region("rectangle", x="1", y=0, width=1, height=1),
        region("rectangle", x=float("nan"), y=0, width=1, height=1),
        region("rectangle", x=1e9, y=0, width=1, height=1),
        region("rectangle"),
        region("polygon", points=[[1]]),
        region("polygon", points={"a": 1}),
        region("brush", rle=[0, 1, 2]),
        region("brush", rle=[255, 255, 255, 255, 0, 0]),
        region("brush", rle=[0, 1, 56, 128, 0]),
        region("brush", rle=["x"] * 10),
        region("brush", rle=[300] * 10),
        {"type": "brush", "value": {"rle": [0, 0, 0, 4]}},
        {"type": "rectangle", "value": 3},
        region("rectangle", x=200, y=200, width=10, height=10),
    ],
)
def test_a_broken_region_is_a_task_error_with_a_hint(broken: dict[str, Any]) -> None:
    with pytest.raises(TaskError) as caught:
        drawn(broken)
    assert caught.value.hint


def test_regions_that_would_take_minutes_to_draw_are_refused_together() -> None:
    polygon = region("polygon", points=[[1, 1], [50, 50], [1, 50]] * 400)
    stroke = region("brush", rle=[0] * 60_000)
    for many in ([polygon] * 20, [stroke] * 20):
        with pytest.raises(TaskError, match="too detailed"):
            drawn(*many)


def test_the_newest_statement_counts() -> None:
    def shape(x: int) -> dict[str, Any]:
        return region("rectanglelabels", x=x, y=0, width=5, height=5, rectanglelabels=["Edit"])

    task: dict[str, Any] = {
        "annotations": [
            {"id": 1, "updated_at": "2026-01-01", "result": [shape(1)]},
            {"id": 2, "updated_at": "2026-01-02", "result": [shape(2)]},
        ]
    }
    assert [r["value"]["x"] for r in mask_regions(task, "", None, SETTINGS)] == [2]
    task["drafts"] = [{"id": 1, "result": [shape(3)]}]
    assert [r["value"]["x"] for r in mask_regions(task, "", None, SETTINGS)] == [3]
    found = mask_regions(task, "", {"result": [shape(4)]}, SETTINGS)
    assert [r["value"]["x"] for r in found] == [4]
    assert "rectanglelabels" not in found[0]["value"]


def test_regions_on_another_image_are_no_mask() -> None:
    config = '<View><Image name="photo" value="$image"/><Image name="best" value="$x"/></View>'
    shapes = [
        region("rectangle", "best", x=1, y=1, width=1, height=1),
        region("rectangle", "photo", x=9, y=1, width=1, height=1),
        region("choices", "photo", choices=["a"]),
    ]
    task = {"annotations": [{"id": 1, "result": shapes}]}
    assert [r["value"]["x"] for r in mask_regions(task, config, None, SETTINGS)] == [9]


def marked(config: str, *shapes: dict[str, Any]) -> list[float]:
    """The x of the shapes that mark where to edit."""
    task = {"annotations": [{"id": 1, "result": list(shapes)}]}
    return [region["value"]["x"] for region in mask_regions(task, config, None, SETTINGS)]


DETECTION = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Bear"/></RectangleLabels><Polygon name="crop" toName="image"/></View>'
)


def test_boxes_around_objects_are_no_mask() -> None:
    bear = region("rectanglelabels", "image", x=1, y=1, width=1, height=1, rectanglelabels=["Bear"])
    assert marked(DETECTION, bear) == []
    for label in ("Edit here", "edit  HERE", "mask 2", "Face swap"):
        mark = region("rectanglelabels", "image", x=9, y=1, width=1, height=1)
        mark["value"]["rectanglelabels"] = [label]
        assert marked(DETECTION, bear, mark) == [9]


def test_a_box_that_is_labelled_by_another_tag_is_no_mask() -> None:
    shape = {**region("rectangle", "image", x=1, y=1, width=1, height=1), "id": "a"}
    choice = {**region("choices", "image", choices=["Bear"]), "id": "a"}
    assert marked(DETECTION, shape) == [1]
    assert marked(DETECTION, shape, choice) == []


def test_without_a_label_only_tags_for_masks_mark_where_there_are_some() -> None:
    both = DETECTION.replace(
        "</View>",
        '<BrushLabels name="brush" toName="image"><Label value="Edit here"/></BrushLabels></View>',
    )
    crop = {**region("rectangle", "image", x=1, y=1, width=1, height=1), "from_name": "crop"}
    own = {**region("rectangle", "image", x=9, y=1, width=1, height=1), "from_name": "brush"}
    assert marked(DETECTION, crop) == [1]
    assert marked(both, crop, own) == [9]
