"""Small ONNX models without any training that InsightFace's own classes accept, and the faces
that they know.

A synthetic face is an oval with five dots of pure colour for eyes, nose and mouth's corners. Who
it is, is told by the colours of forehead and cheeks. The detector finds the dots, the recogniser
turns the three colours into an embedding, and the swapper reads them out of the embedding again
and paints them, leaving the dots (the "expression") alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array: TypeAlias = NDArray[Any]
Colour: TypeAlias = tuple[int, int, int]

DOTS: Sequence[Colour] = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
"""RGB of the eyes (the left one in the image first), the nose and the mouth's corners."""
PLACES = np.array(
    [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]], dtype=np.float64
)
"""Where the dots lie in a face of 112 px, as in the crops that recognisers are trained on."""
STRIDES = (8, 16, 32)
ANCHORS = 2
WINDOW = 17
"""How many cells a side the detector looks at for one face."""
FEWEST_PIXELS = 12
"""A dot of fewer pixels does not count."""
BRIGHTNESS = 0.5
"""Part of every embedding, so that its length can be undone after normalising."""
EMBEDDING = 512
SKIN = (
    (slice(24, 40), slice(44, 68)),
    (slice(62, 82), slice(32, 44)),
    (slice(62, 82), slice(70, 82)),
)
"""Rows and columns of forehead, left and right cheek in a face of 112 px."""


@dataclass(frozen=True)
class Person:
    """Who a synthetic face is: three colours, RGB, none of them vivid."""

    forehead: Colour
    left_cheek: Colour
    right_cheek: Colour


ALICE = Person((200, 150, 120), (190, 140, 130), (210, 160, 110))
BOB = Person((90, 110, 140), (60, 100, 130), (120, 120, 150))
CAROL = Person((140, 130, 90), (150, 160, 120), (100, 90, 80))


@dataclass(frozen=True)
class Drawn:
    """A face to draw: `size` is the side of the 112 px square, `angle` turns it in the plane."""

    person: Person
    x: float
    y: float
    size: float
    angle: float = 0.0


def picture(width: int, height: int, *faces: Drawn, seed: int = 0) -> NDArray[np.uint8]:
    """An RGB image of dark noise with faces on it."""
    image = np.random.default_rng(seed).integers(40, 70, (height, width, 3), dtype=np.uint8)
    for face in faces:
        draw(image, face)
    return image


def draw(image: NDArray[np.uint8], face: Drawn) -> NDArray[np.float64]:
    """Draw a face into an RGB image; returns its five points."""
    import cv2

    turn = cv2.getRotationMatrix2D((56, 72), face.angle, face.size / 112)
    shift = np.array([[0, 0, face.x - 56], [0, 0, face.y - 72]])
    matrix = np.asarray(turn, dtype=np.float64) + shift
    canvas = np.zeros((144, 112, 3), np.uint8)
    canvas[:57] = face.person.forehead
    canvas[57:, :56] = face.person.left_cheek
    canvas[57:, 56:] = face.person.right_cheek
    for (x, y), colour in zip(PLACES, DOTS, strict=True):
        cv2.circle(canvas, (round(x), round(y)), 5, colour, -1)
    oval = np.zeros((144, 112), np.uint8)
    cv2.ellipse(oval, (56, 72), (44, 58), 0, 0, 360, 255, -1)
    size = (image.shape[1], image.shape[0])
    shown = cv2.warpAffine(oval, matrix, size)[..., None] > 127
    image[:] = np.where(shown, cv2.warpAffine(canvas, matrix, size), image)
    points: NDArray[np.float64] = PLACES @ matrix[:, :2].T + matrix[:, 2]
    return points


def build(root: Path, *, batched: bool = False) -> Path:
    """InsightFace's folder with a pack `synthetic`, `swapper.onnx` and `restorer.onnx`."""
    models = root / "models"
    save(detector(), models / "synthetic" / "detector.onnx")
    save(recogniser(), models / "synthetic" / "recogniser.onnx")
    save(swapper(batched=batched), models / "swapper.onnx")
    save(restorer(), models / "restorer.onnx")
    return root


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


class Graph:
    """Collects nodes and constants; every method returns the name of a tensor."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, kind: Any = np.float32, name: str = "") -> str:
        """A constant tensor."""
        name = name or f"constant{len(self._constants)}"
        array = np.ascontiguousarray(np.asarray(values, dtype=kind))
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def apply(self, operation: str, *inputs: Any, result: str = "", **attributes: Any) -> str:
        """One operation; inputs are names of tensors, or numbers."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        result = result or f"tensor{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, names, [result], **attributes))
        return result

    def reshape(self, tensor: str, shape: Sequence[int], result: str = "") -> str:
        """The same values in another shape."""
        return self.apply("Reshape", tensor, self.constant(shape, np.int64), result=result)

    def part(self, tensor: str, start: int, stop: int, axis: int) -> str:
        """A slice along one axis."""
        bounds = [self.constant([one], np.int64) for one in (start, stop, axis)]
        return self.apply("Slice", tensor, *bounds)

    def clip(self, tensor: str) -> str:
        """Values from 0 to 1."""
        return self.apply("Clip", tensor, 0.0, 1.0)

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> onnx.ModelProto:
        """The finished model; the constant made last is the graph's last initialiser."""
        ends = [
            [
                helper.make_tensor_value_info(*(name, TensorProto.FLOAT, shape))
                for name, shape in end
            ]
            for end in (inputs.items(), outputs.items())
        ]
        graph = helper.make_graph(self._nodes, "synthetic", *ends, self._constants)
        operations = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=operations, ir_version=9)
        onnx.checker.check_model(model)
        return model


def detector(*, points: bool = True) -> onnx.ModelProto:
    """SCRFD's layout: scores, boxes and points at three strides, two anchors each."""
    graph = Graph()
    likeness = _likeness(graph)
    outputs: dict[str, list[Any]] = {}
    found = [_faces(graph, likeness, stride) for stride in STRIDES]
    kinds = ("score", "box", "points") if points else ("score", "box")
    for number, kind in enumerate(kinds):
        for stride, tensors in zip(STRIDES, found, strict=True):
            width = (1, 4, 10)[number]
            name = f"{kind}{stride}"
            # Distances are in strides, scores are not.
            unit = 1.0 if kind == "score" else float(stride)
            _per_anchor(graph, tensors[number], width, unit, name)
            outputs[name] = ["anchors", width]
    return graph.model({"image": [1, 3, "height", "width"]}, outputs)


def _likeness(graph: Graph) -> str:
    """Five maps: how much each pixel looks like each dot's colour, from 0 to 1."""
    colours = (np.array(DOTS) - 127.5) / 128
    every = np.tile(np.eye(3), (5, 1)).reshape(15, 3, 1, 1)
    apart = graph.apply("Abs", graph.apply("Conv", "image", every, -colours.ravel()))
    weights = np.full((5, 3, 1, 1), -2 / 3)
    return graph.apply("Relu", graph.apply("Conv", apart, weights, np.ones(5), group=5))


def _moments(graph: Graph, likeness: str, stride: int) -> list[str]:
    """For every cell and colour, over the window around it: weight, and sums of x, y and x² + y²
    in pixels from the cell."""
    y, x = np.mgrid[:stride, :stride]
    own = np.stack([np.ones_like(x), x, y, x * x + y * y]) / stride**2
    cells = graph.apply(
        "Conv", likeness, np.tile(own[:, None], (5, 1, 1, 1)), group=5, strides=[stride, stride]
    )
    reach = WINDOW // 2
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1] * stride
    # A neighbour's moments about this cell are its own, moved by its distance.
    moved = np.zeros((4, 4, WINDOW, WINDOW))
    moved[0, 0] = moved[1, 1] = moved[2, 2] = moved[3, 3] = 1
    moved[1, 0], moved[2, 0] = across, down
    moved[3, 0], moved[3, 1], moved[3, 2] = across**2 + down**2, 2 * across, 2 * down
    windows = graph.apply("Conv", cells, np.tile(moved, (5, 1, 1, 1)), group=5, pads=[reach] * 4)
    table = graph.reshape(windows, [1, 5, 4, -1])
    return [graph.part(table, row, row + 1, axis=2) for row in range(4)]


def _faces(graph: Graph, likeness: str, stride: int) -> tuple[str, str, str]:
    """Score, box and points of the face around every cell, the latter in pixels from it."""
    weight, sum_x, sum_y, sum_squares = _moments(graph, likeness, stride)
    safe = graph.apply("Add", weight, 1e-6)
    x, y = graph.apply("Div", sum_x, safe), graph.apply("Div", sum_y, safe)
    points = graph.apply("Concat", x, y, axis=2)
    low, high = (
        graph.apply(one, points, axes=[1], keepdims=1) for one in ("ReduceMin", "ReduceMax")
    )
    extent = graph.apply("Sub", high, low)
    centre = graph.apply("Mul", graph.apply("Add", high, low), 0.5)
    conditions = [
        _every_dot_is_there(graph, weight, stride),
        _cell_is_its_centre(graph, centre, stride),
        _dots_are_one_face(graph, x, y, graph.apply("Div", sum_squares, safe), extent),
        _eyes_are_level(graph, x),
    ]
    score = conditions[0]
    for condition in conditions[1:]:
        score = graph.apply("Mul", score, condition)
    half = graph.apply("Mul", extent, np.array([0.95, 1.05]).reshape(1, 1, 2, 1))
    sides = [graph.apply(one, half, centre) for one in ("Sub", "Add")]
    return score, graph.apply("Concat", *sides, axis=2), points


def _every_dot_is_there(graph: Graph, weight: str, stride: int) -> str:
    rarest = graph.apply("ReduceMin", weight, axes=[1], keepdims=1)
    return graph.clip(graph.apply("Mul", rarest, stride**2 / FEWEST_PIXELS))


def _cell_is_its_centre(graph: Graph, centre: str, stride: int) -> str:
    far = graph.apply("ReduceMax", graph.apply("Abs", centre), axes=[2], keepdims=1)
    return graph.clip(graph.apply("Sub", 1.5, graph.apply("Div", far, float(stride))))


def _dots_are_one_face(graph: Graph, x: str, y: str, mean_square: str, extent: str) -> str:
    """Two faces in a window would spread the pixels of one colour widely."""
    squares = graph.apply("Add", graph.apply("Mul", x, x), graph.apply("Mul", y, y))
    spread = graph.apply("Sub", mean_square, squares)
    widest = graph.apply("ReduceMax", spread, axes=[1], keepdims=1)
    face = graph.apply("ReduceMax", graph.apply("Mul", extent, extent), axes=[2], keepdims=1)
    allowed = graph.apply("Add", graph.apply("Mul", face, 0.05), 1e-3)
    return graph.clip(graph.apply("Sub", 2.0, graph.apply("Div", widest, allowed)))


def _eyes_are_level(graph: Graph, x: str) -> str:
    left, right = graph.part(x, 0, 1, axis=1), graph.part(x, 1, 2, axis=1)
    return graph.clip(graph.apply("Sub", right, left))


def _per_anchor(graph: Graph, tensor: str, width: int, unit: float, name: str) -> None:
    """Rows as SCRFD has them: cell by cell, each as often as there are anchors."""
    rows = graph.apply("Transpose", graph.reshape(tensor, [width, -1]), perm=[1, 0])
    rows = graph.apply("Unsqueeze", graph.apply("Div", rows, unit), graph.constant([1], np.int64))
    anchors = graph.apply("Tile", rows, graph.constant([1, ANCHORS, 1], np.int64))
    graph.reshape(anchors, [-1, width], result=name)


@cache
def _bases() -> tuple[Array, Array]:
    """Directions in which colours are written into an embedding, and the swapper's own turn."""
    random = np.random.default_rng(7)
    directions = np.linalg.qr(random.standard_normal((EMBEDDING, 10)))[0]
    turn = np.linalg.qr(random.standard_normal((EMBEDDING, EMBEDDING)))[0]
    return directions.astype(np.float32), turn.astype(np.float32)


def recogniser(*, numbers: int = EMBEDDING) -> onnx.ModelProto:
    """ArcFace's layout: an aligned face of 112 px becomes an embedding."""
    graph = Graph()
    directions = _bases()[0][:numbers]
    patches = np.zeros((3, 112, 112))
    for number, (rows, columns) in enumerate(SKIN):
        patches[number, rows, columns] = 1
    patches /= patches.sum(axis=(1, 2), keepdims=True)
    pixels = graph.reshape("face", [-1, 3, 112 * 112])
    colours = graph.reshape(graph.apply("MatMul", pixels, patches.reshape(3, -1).T), [-1, 9])
    graph.apply(
        "Gemm", colours, directions[:, :9].T, directions[:, 9] * BRIGHTNESS, result="embedding"
    )
    return graph.model({"face": ["faces", 3, 112, 112]}, {"embedding": ["faces", numbers]})


def swapper(
    *, batched: bool = False, paints: bool = True, emap: tuple[int, ...] = (EMBEDDING, EMBEDDING)
) -> onnx.ModelProto:
    """INSwapper's layout; one that does not paint returns the target as it is."""
    graph = Graph()
    directions, turn = _bases()
    written = graph.apply("MatMul", "source", turn.T @ directions)
    colours = graph.part(written, 0, 9, axis=1)
    scale = graph.apply("Div", colours, graph.part(written, 9, 10, axis=1))
    colours = graph.apply("Add", graph.apply("Mul", scale, BRIGHTNESS / 2), 0.5)
    painted = graph.apply("MatMul", graph.reshape(colours, [-1, 3, 3]), _skin_areas())
    painted = graph.reshape(painted, [-1, 3, 128, 128])
    cover = graph.apply("Mul", graph.apply("Sub", 1.0, _vivid(graph)), _oval() * float(paints))
    change = graph.apply("Mul", graph.apply("Sub", painted, "target"), cover)
    graph.apply("Add", "target", change, result="output")
    graph.constant(turn if emap == turn.shape else np.zeros(emap), name="emap")
    count = "faces" if batched else 1
    return graph.model(
        {"target": [count, 3, 128, 128], "source": [count, EMBEDDING]},
        {"output": [count, 3, 128, 128]},
    )


def _skin_areas() -> Array:
    """How much of forehead, left and right cheek each pixel of a crop shows."""
    y, x = np.mgrid[:128, :128].astype(np.float32)
    top, left = np.clip((62 - y) / 8 + 0.5, 0, 1), np.clip((64 - x) / 8 + 0.5, 0, 1)
    return np.stack([top, (1 - top) * left, (1 - top) * (1 - left)]).reshape(3, -1)


def _oval() -> Array:
    y, x = np.mgrid[:128, :128].astype(np.float32)
    inside = 1 - ((x - 64) / 50) ** 2 - ((y - 70) / 60) ** 2
    return np.asarray(np.clip(inside * 5, 0, 1).reshape(1, 1, 128, 128))


def _vivid(graph: Graph) -> str:
    """1 where the target has a pure colour: there is a dot."""
    ends = [graph.apply(one, "target", axes=[1], keepdims=1) for one in ("ReduceMax", "ReduceMin")]
    chroma = graph.apply("Sub", *ends)
    return graph.clip(graph.apply("Mul", graph.apply("Sub", chroma, 0.6), 6.0))


def restorer(*, side: int = 512) -> onnx.ModelProto:
    """GFPGAN's layout; where it has been, there are faint stripes."""
    graph = Graph()
    wave = 0.12 * np.sign(np.sin(np.arange(side) * np.pi / 16 + 0.1))
    graph.apply("Add", "input", np.broadcast_to(wave, (1, 1, side, side)), result="output")
    shape = [1, 3, side, side]
    return graph.model({"input": shape}, {"output": shape})
