"""A supersampled canvas with an origin and a scale, and shades of colours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from PIL import Image, ImageDraw

from eacps.demo.bears.scene import Rgb

SIZE: Final = 64
SUPERSAMPLING: Final = 3
WHITE: Final = (255, 255, 255)

Point = tuple[float, float]


def darker(colour: Rgb, factor: float) -> Rgb:
    """The colour multiplied by a factor."""
    red, green, blue = (int(max(0, min(255, channel * factor))) for channel in colour)
    return red, green, blue


def lighter(colour: Rgb, share: float) -> Rgb:
    """The colour blended with white."""
    red, green, blue = (int(channel + (255 - channel) * share) for channel in colour)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Canvas:
    """Shapes in scene units; `x`, `y` and `scale` place the origin on the picture."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    @classmethod
    def blank(cls) -> Canvas:
        """An empty canvas."""
        image = Image.new("RGB", (SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING))
        return cls(image, ImageDraw.Draw(image))

    def placed(self, x: float, y: float, scale: float) -> Canvas:
        """The same canvas with another origin and scale."""
        return replace(self, x=x, y=y, scale=scale)

    def finished(self) -> Image.Image:
        """The picture at its final size."""
        return self.image.reduce(SUPERSAMPLING)

    def rectangle(self, top_left: Point, bottom_right: Point, colour: Rgb) -> None:
        """A filled rectangle."""
        corners = [self._to_pixels(top_left), self._to_pixels(bottom_right)]
        self.draw.rectangle(corners, fill=colour)

    def ellipse(self, x: float, y: float, radii: tuple[float, float], colour: Rgb) -> None:
        """A filled ellipse around a centre."""
        width, height = radii
        box = [self._to_pixels((x - width, y - height)), self._to_pixels((x + width, y + height))]
        self.draw.ellipse(box, fill=colour)

    def outlined_ellipse(
        self, x: float, y: float, radii: tuple[float, float], colours: tuple[Rgb, Rgb]
    ) -> None:
        """A filled ellipse with a thin border; colours are (border, filling)."""
        width, height = radii
        border, filling = colours
        self.ellipse(x, y, (width + 0.7, height + 0.7), border)
        self.ellipse(x, y, radii, filling)

    def polygon(self, points: Iterable[Point], colour: Rgb) -> None:
        """A filled polygon."""
        pixels = [self._to_pixels(point) for point in points]
        self.draw.polygon(pixels, fill=colour)

    def line(self, start: Point, end: Point, width: float, colour: Rgb) -> None:
        """A straight line."""
        pixels = max(1, int(width * self.scale * SUPERSAMPLING))
        ends = [self._to_pixels(start), self._to_pixels(end)]
        self.draw.line(ends, fill=colour, width=pixels)

    def _to_pixels(self, point: Point) -> Point:
        x, y = point
        return (
            (self.x + x * self.scale) * SUPERSAMPLING,
            (self.y + y * self.scale) * SUPERSAMPLING,
        )
