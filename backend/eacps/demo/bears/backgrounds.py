"""The five backgrounds, whose details depend on the background's seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from eacps.demo.bears.canvas import SIZE, WHITE, Canvas, darker
from eacps.demo.bears.scene import BACKGROUNDS, Background, Rgb, jittered

PLAIN_WALLS: Final = (
    (250, 220, 190),
    (200, 225, 250),
    (215, 240, 205),
    (235, 215, 245),
    (250, 245, 200),
    (225, 225, 225),
    (245, 190, 180),
)
SNOW: Final = (248, 250, 255)


def draw_background(canvas: Canvas, background: Background) -> None:
    """Fill the picture with a background."""
    PAINTERS[BACKGROUNDS[background.kind]](canvas, Random(background.seed))


def _band(canvas: Canvas, top: float, colour: Rgb) -> None:
    canvas.rectangle((0, top), (SIZE, SIZE), colour)


def _disc_in_the_sky(canvas: Canvas, random: Random, colour: Rgb) -> None:
    x = random.choice([random.uniform(6, 14), random.uniform(50, 58)])
    canvas.ellipse(x, random.uniform(7, 12), (5, 5), colour)


def _plain(canvas: Canvas, random: Random) -> None:
    wall = jittered(random.choice(PLAIN_WALLS), random, 8)
    _band(canvas, 0, wall)
    _band(canvas, random.uniform(50, 55), darker(wall, 0.88))


def _night(canvas: Canvas, random: Random) -> None:
    _band(canvas, 0, jittered((22, 24, 72), random, 6))
    _band(canvas, random.uniform(50, 55), jittered((30, 46, 50), random, 5))
    for _ in range(random.randrange(5, 9)):
        star = random.uniform(2, 62), random.uniform(2, 30)
        canvas.ellipse(*star, (0.9, 0.9), (250, 245, 200))
    _disc_in_the_sky(canvas, random, (248, 240, 190))


def _beach(canvas: Canvas, random: Random) -> None:
    horizon = random.uniform(30, 36)
    _band(canvas, 0, jittered((150, 215, 250), random, 8))
    _band(canvas, horizon, jittered((30, 130, 200), random, 8))
    _band(canvas, horizon + 13, jittered((238, 210, 150), random, 6))
    _disc_in_the_sky(canvas, random, (255, 215, 70))


def _forest(canvas: Canvas, random: Random) -> None:
    _band(canvas, 0, jittered((180, 222, 190), random, 6))
    _band(canvas, 47, jittered((92, 150, 70), random, 6))
    ranges = ((2, 12), (14, 24), (42, 50), (52, 62))
    trees = [random.uniform(low, high) for low, high in ranges]
    for x in sorted(trees, key=lambda _: random.random()):
        height = random.uniform(20, 30)
        leaves = jittered((28, 104, 58), random, 12)
        canvas.rectangle((x - 1.5, 44), (x + 1.5, 50), (98, 66, 40))
        canvas.polygon([(x - 8, 46), (x + 8, 46), (x, 46 - height)], leaves)


def _snow(canvas: Canvas, random: Random) -> None:
    _band(canvas, 0, jittered((176, 196, 222), random, 6))
    hill = random.uniform(46, 52)
    canvas.ellipse(random.uniform(0, 64), hill + 20, (50, 22), SNOW)
    _band(canvas, hill + 6, SNOW)
    for _ in range(random.randrange(10, 16)):
        flake = random.uniform(2, 62), random.uniform(2, 46)
        canvas.ellipse(*flake, (1.1, 1.1), WHITE)


PAINTERS: Final[Mapping[str, Callable[[Canvas, Random], None]]] = {
    "plain": _plain,
    "night": _night,
    "beach": _beach,
    "forest": _forest,
    "snow": _snow,
}
