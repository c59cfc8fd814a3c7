"""Packages trained parts as diffusers pipelines and an open_clip folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from demo.manifest import write_manifest
from demo.training.editor import noise_schedule
from demo.training.tokenizer import load_tokenizer

EDITORS = {"editor": "final", "editor-early": "early"}


def assemble(work: Path, out: Path) -> None:
    """Write all folders of the pack, replacing existing ones."""
    for name, checkpoint in EDITORS.items():
        _write(out / name, partial(_save_editor, work, checkpoint))
    _write(out / "clip", partial(_save_scorer, work))
    _write(out / "oracle", partial(_save_oracle, work))
    write_manifest(out)


def add_verifier(work: Path, out: Path) -> None:
    """Write the verifier's folder."""
    _write(out / "verifier", partial(_save_verifier, work))
    write_manifest(out)


def _write(folder: Path, save: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save(unfinished)
    remove_local_paths(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _save_editor(work: Path, checkpoint: str, folder: Path) -> None:
    from diffusers import (
        AutoencoderTiny,
        DDIMScheduler,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel

    networks = work / "editor" / checkpoint
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=AutoencoderTiny.from_pretrained(work / "autoencoder"),
        text_encoder=CLIPTextModel.from_pretrained(networks / "text_encoder"),
        tokenizer=load_tokenizer(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(networks / "unet"),
        scheduler=noise_schedule(DDIMScheduler, timestep_spacing="trailing", set_alpha_to_one=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def _save_scorer(work: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = "open_clip_model.safetensors"
    state = load_file(work / "scorer" / weights)
    halves = {
        name: value.half() if value.is_floating_point() else value for name, value in state.items()
    }
    save_file(halves, folder / weights)
    shutil.copy(work / "scorer" / "open_clip_config.json", folder)
    # open_clip reads the tokenizer from the scorer's own folder.
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(work / "tokenizer" / name, folder)


def _save_oracle(work: Path, folder: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        shutil.copy(work / "oracle" / name, folder)


def _save_verifier(work: Path, folder: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(work / "verifier" / name, folder)


def remove_local_paths(folder: Path) -> None:
    """Remove local paths from all configs."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2) + "\n")
