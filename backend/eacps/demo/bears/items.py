"""The things that a bear may wear or hold, drawn relative to the bear's origin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from eacps.demo.bears.canvas import WHITE, Canvas, Point, darker, lighter
from eacps.demo.bears.scene import ITEM_COLOURS, KINDS, Item

HEAD: Final = -9.0
EYES: Final = HEAD - 1.5
BRIM: Final = HEAD - 9.2
YELLOW: Final = 1 + ITEM_COLOURS.index("yellow")
BLACK: Final = 1 + ITEM_COLOURS.index("black")


def draw_hand_item(canvas: Canvas, item: Item, hand: Point) -> None:
    """Draw what the bear holds, which is behind the bear."""
    HAND_PAINTERS[KINDS["hand"][item.kind]](canvas, item, hand)


def draw_neck_item(canvas: Canvas, item: Item) -> None:
    """Draw what the bear wears around its neck."""
    NECK_PAINTERS[KINDS["neck"][item.kind]](canvas, item)


def draw_hat(canvas: Canvas, item: Item, tilt: float) -> None:
    """Draw what the bear wears on its head."""
    x = tilt * 0.5 + 3 * (item.size - 0.5)
    lean = 2.5 * (item.detail - 0.5)
    HAT_PAINTERS[KINDS["hat"][item.kind]](canvas, item, x, lean)


def _sign(item: Item) -> int:
    return 1 if item.right else -1


def _balloon(canvas: Canvas, item: Item, hand: Point) -> None:
    x = hand[0] + _sign(item) * (1 + 4 * item.size)
    y = -19 + 7 * item.height
    radius = 5.2 + 1.3 * item.detail
    tall = radius * 1.12
    canvas.line(hand, (x, y + radius), 0.8, (70, 70, 70))
    canvas.ellipse(x, y, (radius + 0.6, tall + 0.6), darker(item.rgb, 0.6))
    canvas.ellipse(x, y, (radius, tall), item.rgb)
    canvas.ellipse(x - 2, y - 2.4, (1.3, 1.6), lighter(item.rgb, 0.7))
    knot = [(x - 1.3, y + radius + 2), (x + 1.3, y + radius + 2), (x, y + radius)]
    canvas.polygon(knot, darker(item.rgb, 0.7))


def _flower(canvas: Canvas, item: Item, hand: Point) -> None:
    x = hand[0] + _sign(item) * (2 + 2 * item.size)
    y = hand[1] - 9 - 3 * item.height
    petal = 2.1 + 0.5 * item.detail
    canvas.line(hand, (x, y), 1.1, (40, 120, 40))
    for number in range(5):
        angle = number * 2 * math.pi / 5 + item.size * 3
        centre = x + 2.7 * math.cos(angle), y + 2.7 * math.sin(angle)
        canvas.ellipse(*centre, (petal, petal), item.rgb)
    heart = (150, 90, 30) if item.colour == YELLOW else (255, 240, 150)
    canvas.ellipse(x, y, (1.7, 1.7), heart)


def _scarf(canvas: Canvas, item: Item) -> None:
    dark, side = darker(item.rgb, 0.65), _sign(item)
    length = 7 + 5 * item.size
    x = side * (3 + 2.5 * item.height)
    for half, end, colour in ((2.6, 3 + length, dark), (1.9, 2.4 + length, item.rgb)):
        top = [(x - half, 3.0), (x + half, 3.0)]
        canvas.polygon([*top, (x + half + side, end), (x - half + side, end)], colour)
    thickness = 2.6 + 0.7 * item.detail
    canvas.ellipse(0, 2.4, (10.3, thickness + 0.6), dark)
    canvas.ellipse(0, 2.2, (9.7, thickness), item.rgb)


def _bow_tie(canvas: Canvas, item: Item) -> None:
    dark = darker(item.rgb, 0.65)
    width, height, y = 5 + 2 * item.size, 2.8 + 1.2 * item.height, 3.6
    for side in (-1, 1):
        outer = side * (width + 0.8)
        canvas.polygon([(0, y), (outer, y - height - 0.8), (outer, y + height + 0.8)], dark)
        canvas.polygon([(0, y), (side * width, y - height), (side * width, y + height)], item.rgb)
    canvas.ellipse(0, y, (1.9, 1.9), dark)


def draw_sunglasses(canvas: Canvas, item: Item) -> None:
    """Draw round or square sunglasses."""
    radius = 3.3 + 0.7 * item.size
    frame = (90, 90, 100) if item.colour == BLACK else darker(item.rgb, 0.55)
    canvas.line((-12, EYES - 1), (12, EYES - 1), 1.3, frame)
    for x in (-5, 5):
        if item.right:
            canvas.ellipse(x, EYES, (radius + 0.8, radius + 0.6), frame)
            canvas.ellipse(x, EYES, (radius, radius - 0.2), item.rgb)
        else:
            _square_lens(canvas, item, x, radius)
        canvas.line((x - 1.6, EYES + 0.8), (x + 0.4, EYES - 1.4), 0.7, lighter(item.rgb, 0.55))


def _square_lens(canvas: Canvas, item: Item, x: float, radius: float) -> None:
    frame = (90, 90, 100) if item.colour == BLACK else darker(item.rgb, 0.55)
    outer = [
        (x - radius - 0.7, EYES - radius + 0.2),
        (x + radius + 0.7, EYES - radius + 0.2),
        (x + radius - 0.2, EYES + radius),
        (x - radius + 0.2, EYES + radius),
    ]
    inner = [
        (x - radius, EYES - radius + 0.9),
        (x + radius, EYES - radius + 0.9),
        (x + radius - 0.8, EYES + radius - 0.7),
        (x - radius + 0.8, EYES + radius - 0.7),
    ]
    canvas.polygon(outer, frame)
    canvas.polygon(inner, item.rgb)


def _top_hat(canvas: Canvas, item: Item, x: float, lean: float) -> None:
    dark, y = darker(item.rgb, 0.62), BRIM
    width, height = 5.6 + 1.4 * item.height, 8 + 3 * item.height
    base = [(x - width, y), (x + width, y)]
    top = [(x + width + lean, y - height), (x - width + lean, y - height)]
    canvas.polygon([*base, *top], dark)
    base = [(x - width + 0.7, y), (x + width - 0.7, y)]
    top = [
        (x + width + lean - 0.7, y - height + 0.7),
        (x - width + lean + 0.7, y - height + 0.7),
    ]
    canvas.polygon([*base, *top], item.rgb)
    band = (120, 70, 30) if item.colour == YELLOW else lighter(item.rgb, 0.5)
    base = [(x - width, y - 0.6), (x + width, y - 0.6)]
    top = [(x + width + lean * 0.25, y - 3), (x - width + lean * 0.25, y - 3)]
    canvas.polygon([*base, *top], band)
    canvas.ellipse(x, y, (width + 4, 1.9), dark)
    canvas.ellipse(x, y - 0.4, (width + 3.4, 1.3), item.rgb)


def _party_hat(canvas: Canvas, item: Item, x: float, lean: float) -> None:
    y, tip = BRIM, x + lean
    width, height = 6.5 + 1.2 * item.height, 11 + 3.5 * item.height
    border = [(x - width - 0.8, y + 1.3), (x + width + 0.8, y + 1.3), (tip, y - height - 1)]
    canvas.polygon(border, darker(item.rgb, 0.62))
    canvas.polygon([(x - width, y + 0.6), (x + width, y + 0.6), (tip, y - height)], item.rgb)
    for across, up in ((-2.5, -2), (2.3, -3.2), (-0.2, -6.5)):
        canvas.ellipse(x + across + lean * 0.4, y + up, (1.1, 1.1), WHITE)
    canvas.ellipse(tip, y - height, (2.1, 2.1), (255, 250, 235))


def _crown(canvas: Canvas, item: Item, x: float, lean: float) -> None:
    y, spikes = BRIM, 7
    width, height = 7 + 1.3 * item.height, 6.5 + 2 * item.height
    points = [(x - width, y + 1)]
    for number in range(spikes):
        across = x - width - 0.6 + (2 * width + 1.2) * number / 6 + lean * 0.3
        up = height if number % 2 == 0 else height * 0.42
        points.append((across, y - up))
    points.append((x + width, y + 1))
    border = [(px * 1.0 + (px - x) * 0.08, py - 0.5 if py < y else py + 0.6) for px, py in points]
    canvas.polygon(border, darker(item.rgb, 0.62))
    canvas.polygon(points, item.rgb)
    for jewel in (-1, 0, 1):
        canvas.ellipse(x + jewel * width * 0.6, y - 1.2, (1.1, 1.1), WHITE)


HAND_PAINTERS: Final[Mapping[str, Callable[[Canvas, Item, Point], None]]] = {
    "balloon": _balloon,
    "flower": _flower,
}
NECK_PAINTERS: Final[Mapping[str, Callable[[Canvas, Item], None]]] = {
    "scarf": _scarf,
    "bow tie": _bow_tie,
}
HAT_PAINTERS: Final[Mapping[str, Callable[[Canvas, Item, float, float], None]]] = {
    "top hat": _top_hat,
    "party hat": _party_hat,
    "crown": _crown,
}
