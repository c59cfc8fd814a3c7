"""Benchmarks of face swaps: ours versus INSwapper's paste, and engine `basic`.

InsightFace's classes run on synthetic models, whose networks cost next to nothing: what is
compared is everything around the network. All parts take turns in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eacps.domain import Swap
from eacps.faces.basic import BasicEngine
from eacps.faces.insightface.engine import InsightFaceEngine
from eacps.faces.paste import paste
from eacps.faces.protocol import Character, Face, FaceEngine, Pixels
from eacps.faces.readiness import basic_problem
from eacps.plugins import Context
from eacps.settings import Settings
from tests import synthetic_face_models as synthetic
from tests.synthetic_face_models import ALICE, BOB, Drawn, picture

SCENES: Final = (512, 2048, 4096)
FACES: Final = (100, 300, 900)
BOOSTS: Final = (128, 256, 512)
THEIRS: Final = "INSwapper.get"
PEAK: Final = Path("/proc/self/clear_refs")
console = Console(width=140)


def main() -> None:
    """Measure, print a table, and write the rows with a description of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="few repetitions, small scenes")
    parser.add_argument("--repeat", type=int, default=15, help="swaps of every kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=("ours", THEIRS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(peak_of(arguments.memory_of, arguments.threads)))
        return
    if os.environ.get("OMP_NUM_THREADS") != str(arguments.threads):
        # As for workers; this also limits numpy's threads.
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        command = [sys.executable, "-m", "benchmarks.faces", *sys.argv[1:]]
        os.execve(sys.executable, command, environment)
    scenes = SCENES[:2] if arguments.quick else SCENES
    repeat = 3 if arguments.quick else arguments.repeat
    rows = [machine(arguments.threads)]
    rows += speed(Swaps(arguments.threads), scenes, repeat)
    # Several times as slow, and compared with nothing.
    rows += basic_speed(arguments.threads, scenes, max(3, repeat // 3))
    rows += [memory(way, arguments.threads) for way in ("ours", THEIRS)]
    console.print(table(rows))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        target = arguments.out / "faces.jsonl"
        target.write_text("".join(json.dumps(row) + "\n" for row in rows))
        console.print(f"raw results: {target}")


def machine(threads: int) -> dict[str, Any]:
    """The machine, the versions of packages and the command."""
    from importlib.metadata import version

    packages = ("insightface", "onnxruntime", "opencv-python-headless", "scikit-image", "numpy")
    return {
        "kind": "machine",
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python -m benchmarks.faces {' '.join(sys.argv[1:])}",
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in packages},
    }


class Swaps:
    """Both ways of swapping, with the same models."""

    def __init__(self, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)
        self._folder = tempfile.TemporaryDirectory()
        self.root = synthetic.build(Path(self._folder.name))
        self.engine = InsightFaceEngine.load(Context(self._settings(threads)))
        portrait = picture(400, 400, Drawn(ALICE, 200, 210, 180))
        (face,) = self.engine.detect(portrait)
        self.alice = self.engine.character(portrait, face, "Alice")

    def _settings(self, threads: int) -> Settings:
        return Settings(
            insightface_root=self.root,
            insightface_pack="synthetic",
            inswapper="swapper.onnx",
            face_license_accepted=True,
            threads=threads,
        )

    @cached_property
    def _library_swapper(self) -> Any:
        from eacps.faces.insightface.engine import load_swapper
        from eacps.faces.insightface.files import model_files
        from eacps.faces.onnx_sessions import placement

        settings = self._settings(1)
        return load_swapper(model_files(settings), settings, placement(settings, "cpu"))

    def ours(self, scene: Pixels, face: Face, boost: int) -> Pixels:
        """A copy of the scene with our patch in it."""
        return swapped(self.engine, scene, face, self.alice, Swap(boost=boost))

    def theirs(self, scene: Pixels, face: Face) -> Pixels:
        """The library's result, which does not depend on the order of channels."""
        from insightface.app.common import Face as LibraryFace

        target = LibraryFace(kps=face.points)
        source = LibraryFace(embedding=self.alice.face.embedding)
        return np.asarray(self._library_swapper.get(scene, target, source, paste_back=True))


def swapped(
    engine: FaceEngine, scene: Pixels, face: Face, character: Character, recipe: Swap
) -> Pixels:
    """A copy of the scene after a swap."""
    after = scene.copy()
    paste(after, engine.patch(scene, face, character, recipe))
    return after


def sizes(scenes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Scenes and the faces that fit into them."""
    yield from ((scene, face) for scene in scenes for face in FACES if face * 1.3 < scene)


def speed(swaps: Swaps, scenes: Sequence[int], repeat: int) -> list[dict[str, Any]]:
    """Milliseconds per swap of given faces, without detection."""
    rows = []
    for side, size in track(list(sizes(scenes)), "insightface"):
        scene, face = scene_with_face(side, size)
        ways: dict[str, Callable[[], Pixels]] = {THEIRS: partial(swaps.theirs, scene, face)}
        for boost in BOOSTS:
            ways[f"ours {boost} px"] = partial(swaps.ours, scene, face, boost)
        times = taking_turns(ways, repeat)
        rows += [speed_row("insightface", side, size, way, times, THEIRS) for way in ways]
    return rows


def scene_with_face(side: int, size: int) -> tuple[Pixels, Face]:
    """A synthetic scene and its face."""
    scene = picture(side, side)
    points = synthetic.draw(scene, Drawn(BOB, side / 2, side / 2, size, 10)).astype(np.float32)
    low, high = (side - size) / 2, (side + size) / 2
    box = np.array([low, low, high, high], dtype=np.float32)
    return scene, Face(box=box, points=points, score=1.0)


@dataclass(frozen=True)
class Times:
    """Milliseconds of wall-clock time, and of CPU time, which other processes do not affect."""

    clock: list[float]
    processor: list[float]


def taking_turns(ways: Mapping[str, Callable[[], Pixels]], repeat: int) -> Mapping[str, Times]:
    """The times of all ways, run alternately; the first round is for warming up."""
    times = {way: Times([], []) for way in ways}
    for number in range(repeat + 1):
        for way, swap in ways.items():
            start = time.perf_counter(), time.process_time()
            swap()
            if number:
                times[way].clock.append((time.perf_counter() - start[0]) * 1e3)
                times[way].processor.append((time.process_time() - start[1]) * 1e3)
    return times


def speed_row(
    engine: str,
    side: int,
    size: int,
    way: str,
    times: Mapping[str, Times],
    reference: str = "",
) -> dict[str, Any]:
    """Median and maximum, and the ratio of medians to the reference."""
    clock, processor = times[way].clock, times[way].processor
    row: dict[str, Any] = {
        "kind": "speed",
        "engine": engine,
        "scene": side,
        "face": size,
        "way": way,
        "swaps": len(clock),
        "median_ms": round(statistics.median(clock), 1),
        "worst_ms": round(max(clock), 1),
        "median_cpu_ms": round(statistics.median(processor), 1),
        "worst_cpu_ms": round(max(processor), 1),
    }
    if reference and way != reference:
        for name, ours, theirs in (
            ("times_faster", clock, times[reference].clock),
            ("times_faster_cpu", processor, times[reference].processor),
        ):
            row[name] = round(statistics.median(theirs) / statistics.median(ours), 2)
    return row


def basic_speed(threads: int, scenes: Sequence[int], repeat: int) -> list[dict[str, Any]]:
    """The same for engine `basic`, on real faces, if its models are installed."""
    settings = Settings()
    if basic_problem(settings) is not None:
        console.print("skipping engine basic, whose models are missing (eacps face-models)")
        return []
    engine = BasicEngine.open(settings.face_models, threads=threads)
    portrait, scene = real_pictures()
    face = engine.described(portrait, engine.detect(portrait)[0])
    character = engine.character(portrait, face, "the character")
    rows = []
    for side, size in track(list(sizes(scenes)), "basic"):
        large = enlarged_scene(engine, scene, side, size)
        target = engine.described(large, engine.detect(large)[0])
        ways = {
            "patch and paste": partial(swapped, engine, large, target, character, Swap()),
            "find and describe": partial(found, engine, large),
        }
        times = taking_turns(ways, repeat)
        rows += [speed_row("basic", side, size, way, times) for way in ways]
    return rows


def found(engine: FaceEngine, scene: Pixels) -> Pixels:
    """Only detect and describe the face."""
    engine.described(scene, engine.detect(scene)[0])
    return scene


def real_pictures() -> tuple[Pixels, Pixels]:
    """A portrait and a scene from installed packages."""
    import cv2
    import insightface
    from skimage.data import astronaut

    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    scene = cv2.imread(str(path))
    assert scene is not None, path
    return astronaut(), np.ascontiguousarray(scene[..., ::-1], dtype=np.uint8)


def enlarged_scene(engine: FaceEngine, scene: Pixels, side: int, size: int) -> Pixels:
    """A square scene with the largest face in the centre and with a given side."""
    import cv2

    face = engine.detect(scene)[0]
    scale = size / face.side
    x, y = face.centre
    matrix = np.array([[scale, 0, side / 2 - x * scale], [0, scale, side / 2 - y * scale]])
    smooth = cv2.INTER_CUBIC
    return np.asarray(cv2.warpAffine(scene, matrix, (side, side), flags=smooth), dtype=np.uint8)


def memory(way: str, threads: int) -> dict[str, Any]:
    """The memory of a swap in the largest scene, measured in a separate process."""
    command = [sys.executable, "-m", "benchmarks.faces", "--memory-of", way]
    command += ["--threads", str(threads)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


@dataclass(frozen=True)
class Memory:
    """Resident memory of this process, in MiB."""

    now: float
    peak: float

    @classmethod
    def read(cls) -> Memory:
        """Read it from the kernel."""
        lines = Path("/proc/self/status").read_text().splitlines()
        values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
        return cls(int(values["VmRSS"]) / 1024, int(values["VmHWM"]) / 1024)


def peak_of(way: str, threads: int) -> dict[str, Any]:
    """The peak memory of a swap beyond the memory before it (Linux)."""
    swaps = Swaps(threads)
    small, large = (scene_with_face(side, 300) for side in (512, max(SCENES)))
    for scene, face in (small, large):
        # Reset the peak, because loading the models may need more than a swap.
        PEAK.write_text("5")
        before = Memory.read()
        after = swaps.ours(scene, face, 256) if way == "ours" else swaps.theirs(scene, face)
        used = Memory.read().peak - before.now
    result = after.nbytes / 2**20
    return {
        "kind": "memory",
        "way": way,
        "scene": max(SCENES),
        "face": 300,
        "peak_mib": round(used, 1),
        "of_which_result_mib": round(result, 1),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table."""
    shown = Table(title="Face swaps")
    titles = {
        "engine": "engine",
        "scene": "scene",
        "face": "face",
        "way": "way",
        "median_ms": "median ms",
        "worst_ms": "worst",
        "times_faster": "faster",
        "median_cpu_ms": "median CPU ms",
        "worst_cpu_ms": "worst",
        "times_faster_cpu": "faster",
        "peak_mib": "MiB",
    }
    for title in titles.values():
        shown.add_column(title, no_wrap=True)
    for row in rows:
        if row["kind"] == "machine":
            continue
        shown.add_row(*(str(row.get(name, "")) for name in titles))
    return shown


if __name__ == "__main__":
    main()
