"""Draws a scene as a 64 x 64 picture, from back to front."""

from __future__ import annotations

import math

from PIL import Image

from eacps.demo.bears.backgrounds import draw_background
from eacps.demo.bears.canvas import WHITE, Canvas, Point, darker, lighter
from eacps.demo.bears.items import (
    EYES,
    HEAD,
    draw_hand_item,
    draw_hat,
    draw_neck_item,
    draw_sunglasses,
)
from eacps.demo.bears.scene import Pose, Rgb, Scene


def render(scene: Scene) -> Image.Image:
    """The picture of a scene."""
    canvas = Canvas.blank()
    draw_background(canvas, scene.background)
    pose, fur, items = scene.pose, scene.body.rgb, scene.items
    bear = canvas.placed(32 + pose.x, 36 + pose.y, pose.scale)
    hands = _hand(-1, pose.left_arm), _hand(1, pose.right_arm)
    if items["hand"].kind:
        draw_hand_item(bear, items["hand"], hands[items["hand"].right])
    _draw_trunk(bear, fur)
    _draw_arms(bear, fur, hands)
    _draw_head(bear, fur, pose)
    _draw_face(bear, pose)
    if items["neck"].kind:
        draw_neck_item(bear, items["neck"])
    if items["eyes"].kind:
        draw_sunglasses(bear, items["eyes"])
    if items["hat"].kind:
        draw_hat(bear, items["hat"], pose.tilt)
    return canvas.finished()


def _hand(side: int, angle: float) -> Point:
    return side * (9 + 7.5 * math.cos(angle)), 4 - 7.5 * math.sin(angle) + 3


def _draw_trunk(bear: Canvas, fur: Rgb) -> None:
    outline = darker(fur, 0.5)
    for x in (-6.5, 6.5):
        bear.outlined_ellipse(x, 21, (4.6, 3.6), (outline, darker(fur, 0.72)))
    bear.outlined_ellipse(0, 11.5, (10.5, 11), (outline, fur))
    bear.ellipse(0, 13, (6.5, 7.2), lighter(fur, 0.5))


def _draw_arms(bear: Canvas, fur: Rgb, hands: tuple[Point, Point]) -> None:
    outline = darker(fur, 0.5)
    for hand, side in zip(hands, (-1, 1), strict=True):
        bear.line((side * 8, 5), hand, 6.4, outline)
        bear.line((side * 8, 5), hand, 5, fur)
        bear.outlined_ellipse(*hand, (3.2, 3.2), (outline, fur))


def _draw_head(bear: Canvas, fur: Rgb, pose: Pose) -> None:
    outline, light = darker(fur, 0.5), lighter(fur, 0.5)
    for side in (-1, 1):
        ear = side * 9.5 + pose.tilt * 0.3, HEAD - 8.5 + side * pose.tilt * 0.4
        bear.outlined_ellipse(*ear, (4.3, 4.3), (outline, fur))
        bear.ellipse(*ear, (2.3, 2.3), light)
    bear.outlined_ellipse(0, HEAD, (13, 11.2), (outline, fur))
    bear.ellipse(0, HEAD + 4.6, (6, 4.7), light)


def _draw_face(bear: Canvas, pose: Pose) -> None:
    for x in (-5.2, 5.2):
        bear.ellipse(x, EYES, (2, 2.3), WHITE)
        bear.ellipse(x + pose.gaze, EYES, (1.4, 1.6), (25, 20, 20))
    bear.ellipse(0, HEAD + 2.6, (1.9, 1.4), (40, 25, 25))
    width = 1 + 1.5 * pose.smile
    for x in (-width - 1, width + 1):
        corner = x, HEAD + 6.2 - width * 0.3
        bear.line(corner, (0, HEAD + 7), 0.9, (60, 35, 35))
