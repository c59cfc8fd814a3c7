"""Bear scenes, and generating and editing them randomly.

Do not change the order in which random numbers are drawn: the shipped weights were trained on
exactly these scenes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

Rgb = tuple[int, int, int]

BODY_COLOURS: Final = ("brown", "pink", "white", "gray", "blue", "green")
BACKGROUNDS: Final = ("plain", "night", "beach", "forest", "snow")
ITEM_COLOURS: Final = ("red", "blue", "green", "yellow", "purple", "black")
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "hat": ("none", "top hat", "party hat", "crown"),
    "eyes": ("none", "sunglasses"),
    "neck": ("none", "scarf", "bow tie"),
    "hand": ("none", "balloon", "flower"),
}
SLOTS: Final = tuple(KINDS)
PARTS: Final = ("body", "background", *SLOTS)
NONE: Final = 0

FIELDS: Final = (
    "body",
    "background",
    *(f"{slot}_{what}" for slot in SLOTS for what in ("kind", "colour")),
)
"""The attribute vector; the colour of an item is 1 + its index, or 0 without an item."""

FIELD_SIZES: Final = (
    len(BODY_COLOURS),
    len(BACKGROUNDS),
    *(size for slot in SLOTS for size in (len(KINDS[slot]), 1 + len(ITEM_COLOURS))),
)

PALETTE: Final[Mapping[str, Rgb]] = {
    "brown": (146, 96, 56),
    "pink": (242, 150, 178),
    "white": (240, 236, 228),
    "gray": (138, 140, 148),
    "blue": (62, 108, 220),
    "green": (64, 166, 84),
    "red": (222, 42, 44),
    "yellow": (250, 210, 40),
    "purple": (146, 62, 196),
    "black": (34, 32, 38),
}


@dataclass(frozen=True, slots=True)
class Body:
    """The bear's fur: an index into BODY_COLOURS and the exact shade."""

    kind: int
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Background:
    """An index into BACKGROUNDS and the seed of its details."""

    kind: int
    seed: int


@dataclass(frozen=True, slots=True)
class Item:
    """The content of a slot: kind, colour, exact shade, and four numbers that vary its shape."""

    kind: int
    colour: int
    rgb: Rgb
    size: float
    height: float
    right: bool
    detail: float


@dataclass(frozen=True, slots=True)
class Pose:
    """The position and the pose of the bear."""

    x: float
    y: float
    scale: float
    left_arm: float
    right_arm: float
    tilt: float
    gaze: float
    smile: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A complete description of a picture."""

    body: Body
    background: Background
    pose: Pose
    items: Mapping[str, Item]

    def state(self, part: str) -> tuple[int, int]:
        """The kind and colour of a part, which edits change."""
        if part == "body":
            return self.body.kind, 0
        if part == "background":
            return self.background.kind, 0
        return self.items[part].kind, self.items[part].colour

    def with_item(self, slot: str, item: Item) -> Scene:
        """The same scene with another item in one slot."""
        return replace(self, items={**self.items, slot: item})


def attributes(scene: Scene) -> tuple[int, ...]:
    """The ground truth of a scene, in the order of FIELDS."""
    values = [scene.body.kind, scene.background.kind]
    for slot in SLOTS:
        values += scene.state(slot)
    return tuple(values)


def attributes_of(part: str) -> tuple[str, ...]:
    """The fields that describe one part."""
    return (f"{part}_kind", f"{part}_colour") if part in SLOTS else (part,)


def changed_parts(before: Scene, after: Scene) -> list[str]:
    """The parts whose kind or colour differ, in the order of PARTS."""
    return [part for part in PARTS if before.state(part) != after.state(part)]


def jittered(colour: Rgb, random: Random, amount: float = 12) -> Rgb:
    """A shade near a colour."""
    shift = random.uniform(-amount, amount)
    red, green, blue = (
        int(max(0, min(255, channel + shift + random.uniform(-amount / 2, amount / 2))))
        for channel in colour
    )
    return red, green, blue


def random_body(kind: int, random: Random) -> Body:
    """A body of a given colour in a random shade."""
    return Body(kind, jittered(PALETTE[BODY_COLOURS[kind]], random, 10))


def random_background(kind: int, random: Random) -> Background:
    """A background of a given kind with random details."""
    return Background(kind, random.randrange(1 << 30))


def item_shade(colour: int, random: Random) -> Rgb:
    """A random shade of an item colour (1 + index)."""
    return jittered(PALETTE[ITEM_COLOURS[colour - 1]], random)


def random_item(kind: int, colour: int, random: Random) -> Item:
    """An item of a given kind and colour in a random shape and shade."""
    size, height = random.random(), random.random()
    right, detail = random.random() < 0.5, random.random()
    shade = item_shade(colour, random) if colour else (0, 0, 0)
    return Item(kind, colour, shade, size, height, right, detail)


def _random_slot(slot: str, random: Random, empty: float) -> Item:
    kind = NONE if random.random() < empty else random.randrange(1, len(KINDS[slot]))
    colour = 1 + random.randrange(len(ITEM_COLOURS)) if kind else NONE
    return random_item(kind, colour, random)


def _random_pose(random: Random) -> Pose:
    return Pose(
        x=random.uniform(-5, 5),
        y=random.uniform(-2, 3),
        scale=random.uniform(0.85, 1.05),
        left_arm=random.uniform(-0.3, 1.1),
        right_arm=random.uniform(-0.3, 1.1),
        tilt=random.uniform(-2, 2),
        gaze=random.uniform(-0.8, 0.8),
        smile=random.random(),
    )


def random_scene(random: Random, empty: float = 0.6) -> Scene:
    """A scene; each slot is empty with the given chance."""
    body = random_body(random.randrange(len(BODY_COLOURS)), random)
    background = random_background(random.randrange(len(BACKGROUNDS)), random)
    pose = _random_pose(random)
    items = {slot: _random_slot(slot, random, empty) for slot in SLOTS}
    return Scene(body, background, pose, items)


def _other(count: int, current: int, random: Random, first: int = 0) -> int:
    return random.choice([value for value in range(first, count) if value != current])


def _edited_item(slot: str, item: Item, random: Random) -> Item:
    if item.kind == NONE:
        kind = random.randrange(1, len(KINDS[slot]))
        return random_item(kind, 1 + random.randrange(len(ITEM_COLOURS)), random)
    if random.random() < 0.5:
        return random_item(NONE, NONE, random)
    colour = _other(1 + len(ITEM_COLOURS), item.colour, random, first=1)
    return replace(item, colour=colour, rgb=item_shade(colour, random))


def edited_part(scene: Scene, edited: Scene, part: str, random: Random) -> Scene:
    """`edited` with another state of a part than `scene` has."""
    if part == "body":
        kind = _other(len(BODY_COLOURS), scene.body.kind, random)
        return replace(edited, body=random_body(kind, random))
    if part == "background":
        kind = _other(len(BACKGROUNDS), scene.background.kind, random)
        return replace(edited, background=random_background(kind, random))
    return edited.with_item(part, _edited_item(part, scene.items[part], random))


def _random_part(random: Random) -> str:
    draw = random.random()
    if draw < 0.14:
        return "body"
    if draw < 0.30:
        return "background"
    return random.choices(SLOTS, (30, 16, 27, 27))[0]


def random_edit(scene: Scene, random: Random, operations: int | None = None) -> Scene:
    """Change one or more parts of a scene; all other pixels remain the same."""
    count = operations or (2 if random.random() < 0.25 else 1)
    edited, done = scene, set[str]()
    while len(done) < count:
        part = _random_part(random)
        if part not in done:
            done.add(part)
            edited = edited_part(scene, edited, part, random)
    return edited
