"""One example of everything that is stored, made in code. Pure values: no model, no clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eacps.artifacts import ArtifactStore, UrlSigner, name_of
from eacps.domain import (
    Candidate,
    EditTask,
    Failure,
    Metric,
    Move,
    Noise,
    SearchPlan,
    SearchResult,
    Swap,
    Trial,
    to_json,
)
from eacps.editors.diffusers.states import State, owner_of, owner_of_0_1, to_bytes
from eacps.jobs import names
from eacps.jobs.codec import encode
from eacps.jobs.contract import Job
from eacps.jobs.large_values import without_large_values
from eacps.labelstudio import cards
from eacps.labelstudio.tasks.origins import Origin
from eacps.labelstudio.tasks.steering import Continued, KeptFile, Picked, Steer
from eacps.offline.hooks import FileHooks
from eacps.settings import Settings

SIGNER = UrlSigner(b"a secret of the examples", "https://eacps.example")
DATA = {"image": "https://pictures.example/bear.png", "prompt": "add a <red> scarf", "sku": 17}


def artifact(number: int, suffix: str = "png") -> str:
    """The name of a stored file."""
    return f"{number:040x}.{suffix}"


def settings(**changes: Any) -> Settings:
    """Settings that no environment and no `.env` reaches."""
    return Settings(_env_file=None, **changes)


def origin() -> Origin:
    """A task of Label Studio with a drawn region."""
    rectangle = {
        "type": "rectanglelabels",
        "original_width": 640,
        "original_height": 480,
        "value": {"x": 10.5, "y": 20, "width": 30, "height": 40, "rotation": 0},
    }
    return Origin(
        data={"image": DATA["image"], "prompt": DATA["prompt"]},
        route="edit",
        route_reason="label “local edit” in the task's field `route`",
        model_version="eacps-0123456789",
        label_studio="https://labels.example",
        project=3,
        task=42,
        created=1_790_000_000,
        regions=(rectangle,),
        look_up=True,
    )


def edit_task() -> EditTask:
    """An edit inside a mask, with every field set that an edit can have."""
    return EditTask(
        image=artifact(1),
        instruction=str(DATA["prompt"]),
        route_reason=origin().route_reason,
        mask=artifact(2),
        references=(artifact(3),),
        plan=SearchPlan("eacps", {"k": 4, "m": 1, "k_local": 2, "rungs": [[0.5, 2]]}, 7, 2, 8),
        fingerprint="0123456789",
        model_version="eacps-0123456789",
        equipment="1234567890",
        rendered="2345678901",
        judged="3456789012",
    )


def swap_task() -> EditTask:
    """Two faces for two characters."""
    return EditTask(
        image=artifact(4),
        instruction="Swap the face.",
        route="face_swap",
        references=(artifact(5), artifact(6)),
        plan=SearchPlan("choices", {"alternatives": 2, "blends": [1.0, 0.8]}, 0, 32),
        fingerprint="0123456789",
        regions=(artifact(7), artifact(8)),
        mapping="similarity",
        model_version="eacps-0123456789",
    )


def search_result() -> SearchResult:
    """A winner, its child, a pruned preview and a failure."""
    first, parent = Trial("c1", Noise(11)), Trial("c2", Noise(12))
    child = Trial("c5", Noise(12, (Move(0.4, 99),)), "local", 1, "c2", None, "and keep the hat")
    paused = Trial("c3", Noise(13), to_step=4)
    metrics = (Metric("pf", 0.31, 0.62, 1.0, 0.31), Metric("lpips", 0.2, 0.8, -3.0, -0.6))
    ended = [
        Candidate(
            child, artifact(9), artifact(9, "jpg"), metrics, 9.25, 16, 1.5,
            notes=("Memory was short.",), editor="Tiny · bears", detail="swapped first",
            why="The scarf is red, and nothing else changed.",
        ),
        Candidate(parent, artifact(10), artifact(10, "jpg"), metrics, 9.0, 16, 1.25),
        Candidate(first, artifact(11), artifact(11, "jpg"), metrics, 8.5, 16, 1.25),
        Candidate(
            paused, artifact(12), artifact(12, "jpg"), metrics, 8.0, 8, 0.5,
            Failure("pruned", "Stopped at step 4 of 8: others looked better."),
        ),
        Candidate(Trial("c4", Noise(14)), failure=Failure("editor_nan", "No <numbers>.")),
    ]  # fmt: skip
    return SearchResult(
        edit_task(), tuple(ended), 56, 4.5, "Tiny · bears", (4.0, 10.5),
        ("One note for all.",), ("Step 4: c2, c1 of 4 previews went on.",),
    )  # fmt: skip


def as_of_01(result: SearchResult) -> SearchResult:
    """The same as 0.1 knew it: without what was added since."""
    task = replace(result.task, equipment="", rendered="", judged="")
    candidates = tuple(replace(each, why="") for each in result.candidates)
    return replace(result, task=task, candidates=candidates)


def swap_result() -> SearchResult:
    """Two choices of one face swap."""
    metrics = (
        Metric("identity", 0.5, 0.625, 1.0, 0.625),
        Metric("identity_before", 0.1, 0.1, 0, 0),
    )
    ended = [
        Candidate(
            Trial("c1", Noise(0), swap=Swap(blend=0.8)), artifact(13), artifact(13, "jpg"),
            metrics, 0.625, detail="the left face; blend 80%", editor="basic (a.onnx on CPU)",
        ),
        Candidate(Trial("c2", Noise(0), swap=Swap(1)), artifact(14), artifact(14, "jpg"), (), 0.5),
    ]  # fmt: skip
    return SearchResult(swap_task(), tuple(ended), 0, 0.75, "basic (a.onnx on CPU)", (0.0, 1.7))


def job() -> Job:
    """A job as it is queued."""
    return Job(origin().job_id, to_json(origin()), 1)


def steered_origin() -> Origin:
    """What a person asked for on the panel of the same task, with every field set."""
    mask = KeptFile(artifact(2), "/data/upload/3/mask.png")
    pick = Picked("c5-bee235", 12, (Move(0.4, 99),), "and keep the hat", 4, 8, "2345678901")
    stroke = {"points": [[10, 20.5], [30, 40]], "radius": 2.5}
    steer = Steer(
        "refine", 3, 77, 2, (pick,), "less red", "add a hat", 0.2, (stroke,), 1,
        Continued("bee235", str(DATA["prompt"]), "edit", mask), (11, 12, 99),
    )  # fmt: skip
    return replace(origin(), steer=steer)


def steered_job() -> Job:
    """A request of a panel as it is queued."""
    return Job("0123456789abcdef01234567", to_json(steered_origin()), 1)


def steered_task_data() -> dict[str, Any]:
    """The same task's data after that request was delivered, too."""
    found = search_result()
    plan = SearchPlan("children", {"picks": [], "per_pick": 2}, 77, 2, 8)
    asked = Candidate(
        Trial("c1", Noise(12, (Move(0.4, 99), Move(0.2, 5))), "local", 1, "c5-bee235"),
        artifact(15), artifact(15, "jpg"), found.candidates[0].metrics, 9.1, 16, 1.5,
    )  # fmt: skip
    result = replace(found, task=replace(found.task, plan=plan), candidates=(asked,))
    steer = steered_origin().steer
    new = cards.enrichment(
        result, SIGNER.url, job_id=origin().job_id, model_version="eacps-0123456789",
        data=task_data(), steer=steer,
    )  # fmt: skip
    return cards.merged(task_data(), new)


def job_with_large_values() -> Job:
    """A job whose picture is a data: URI, with a brush mask: as it is submitted."""
    asked = origin()
    brush = {"type": "brushlabels", "value": {"format": "rle", "rle": list(range(3000))}}
    picture = "data:image/png;base64," + 2000 * "iVBO"
    asked = replace(asked, data={**asked.data, "image": picture}, regions=(*asked.regions, brush))
    return Job(asked.job_id, to_json(asked), 1)


def job_row(files: dict[str, bytes]) -> Job:
    """The same job as it is queued; its large values go into these files."""

    def put(content: bytes, suffix: str) -> str:
        name = name_of(content, suffix)
        files[name] = content
        return name

    return without_large_values(job_with_large_values(), put)


def task_data() -> dict[str, Any]:
    """A task's data after its search was delivered."""
    new = cards.enrichment(
        search_result(),
        SIGNER.url,
        job_id=origin().job_id,
        model_version="eacps-0123456789",
        references=[SIGNER.url(artifact(3, "jpg"))],
    )
    return cards.merged(DATA, new)


def failed_task_data() -> dict[str, Any]:
    """A task's data after its failure was delivered."""
    failure = Failure("bad_image", "The image <x> could not be read.")
    line = cards.route_line("edit", origin().route_reason)
    return cards.merged(
        DATA,
        cards.failure_enrichment(
            failure, job_id=origin().job_id, model_version="eacps-0123456789", route_line=line
        ),
    )


def identities() -> dict[str, str]:
    """Hashes of content, which must not change."""
    chosen = {
        "default": settings(),
        "eacps 8/3/4": settings(strategy="eacps", strategy_params={"k": 8, "m": 3, "k_local": 4}),
        "weighted": settings(potential="weighted", weights={"pf": 1.0, "lpips": 0.5}),
        "qwen": settings(editor="Qwen/Qwen-Image-Edit", steps=40, guidance=4.0, seed=3),
        "faces": settings(face_engine="basic", face_blends=(1.0,), face_mark="visible"),
    }
    return {
        "EditTask.key": edit_task().key,
        "EditTask.key of a face swap": swap_task().key,
        "Origin.job_id": origin().job_id,
        "Origin.job_id with large values": job_with_large_values().id,
        "job workflow": names.job_workflow(origin().job_id),
        "delivery workflow": names.delivery_workflow(origin().job_id),
        "search workflow": names.search_workflow(edit_task().key),
        "batch workflow": names.batch_workflow(edit_task().key, "0123"),
        "image URL": SIGNER.url(artifact(1)),
        **{f"fingerprint of {name}": each.fingerprint for name, each in chosen.items()},
        **{f"model version of {name}": each.model_version for name, each in chosen.items()},
    }


def paused_state(owner: str = "") -> bytes:
    """A paused render."""
    latents = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 7
    generator = torch.arange(16, dtype=torch.uint8)
    return to_bytes(State(4, latents, generator), owner or "an owner")


def texts() -> dict[str, Any]:
    """By file name: JSON that is stored somewhere, in the database, in a task, or in a folder."""
    result = search_result()
    return {
        "search-result.json": to_json(result),
        "face-swap-result.json": to_json(swap_result()),
        "job.json": to_json(job()),
        "job-of-a-panel.json": to_json(steered_job()),
        "steered-task-data.json": steered_task_data(),
        "job-with-large-values.json": to_json(job_row({})),
        "edit-task.json": to_json(edit_task()),
        "task-data.json": task_data(),
        "failed-task-data.json": failed_task_data(),
        "prediction.json": cards.prediction(task_data(), "eacps-0123456789"),
        "identities.json": identities(),
        "database-row.json": encode({"result": to_json(result)}),
    }


def run_report(folder: Path) -> Mapping[str, Any]:
    """What `eacps run` writes about a task, and which files."""
    store = ArtifactStore(f"file://{folder / 'store'}")
    stored = {each: store.put(each.encode(), "png") for each in ("c5", "c2", "c1")}
    result = search_result()
    ended = tuple(
        replace(each, image=stored[each.id]) if each.id in stored else each
        for each in result.candidates
    )
    hooks = FileHooks(settings(data_dir=folder / "data"), folder / "out", store)
    hooks.deliver(
        {"origin": to_json(origin()), "name": "bear", "task_id": 42, "job": "0123-bear"},
        replace(result, candidates=ended),
    )
    files = sorted(p.relative_to(folder / "out") for p in (folder / "out").rglob("*"))
    report = json.loads((folder / "out" / "bear.json").read_text(encoding="utf-8"))
    return {"files": [path.as_posix() for path in files], "report": report}


def state_owners() -> list[str]:
    """Whose a paused render may be: as it is named now, and as 0.1 named it."""
    trial = Trial("c3", Noise(13, (Move(0.4, 99),)), to_step=4, instruction_suffix="more red")
    return [name(edit_task(), settings(), trial) for name in (owner_of, owner_of_0_1)]
