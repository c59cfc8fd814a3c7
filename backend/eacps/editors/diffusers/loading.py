"""Loads a pipeline from a folder or hub id: safetensors only, and never code from a model."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from eacps.editors.diffusers.family import Family
from eacps.editors.registry import family_of
from eacps.errors import EacpsError, EditorError, SettingsError, first_line
from eacps.files import parsed_json
from eacps.settings import Settings
from eacps.weights import verify_manifest

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_UNSAFE = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".msgpack", ".h5"}
_HINT = "Point EACPS_EDITOR at a folder that diffusers' save_pretrained wrote, or at a hub id."
_RESERVED = {
    "callback_on_step_end": "it is how progress is reported",
    "generator": "the search chooses the noise",
    "height": "set EACPS_MAX_SIDE",
    "image": "it comes from the task",
    "latents": "the search chooses the noise",
    "negative_prompt": "set EACPS_NEGATIVE_PROMPT",
    "negative_prompt_embeds": "set EACPS_NEGATIVE_PROMPT",
    "num_images_per_prompt": "set EACPS_BATCH_SIZE",
    "num_inference_steps": "set EACPS_STEPS",
    "output_type": "the search needs pixels",
    "prompt": "it comes from the task",
    "prompt_embeds": "it comes from the task",
    "return_dict": "the search reads the pipeline's output",
    "width": "set EACPS_MAX_SIDE",
}


def load_family(settings: Settings, device: str) -> Family:
    """Load the pipeline of EACPS_EDITOR onto a device and wrap it in its family."""
    if settings.steps < 2:
        raise SettingsError(
            f"EACPS_STEPS is {settings.steps}; flow-matching editors divide by zero below 2.",
            hint="Set EACPS_STEPS to 2 or more.",
        )
    place = _device(device)
    _quiet()
    source = _source(settings.editor)
    family_class = family_of(_pipeline_class(source, settings))
    pipe = _pipeline(source, settings, _dtype(settings, place))
    _adjust_scheduler(pipe, settings)
    _check_arguments(pipe, settings)
    _load_lora(pipe, settings)
    _move_to_device(pipe, settings, place)
    family = family_class(pipe, settings)
    family.prepare()
    return family


def _device(name: str) -> torch.device:
    hint = "Set EACPS_DEVICES to cpu, cuda:0, mps, or auto."
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"Unknown device {name!r}.", hint=hint) from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, True):
        raise SettingsError(f"This machine has no device {name!r}.", hint=hint)
    return device


def _dtype(settings: Settings, device: torch.device) -> torch.dtype:
    if settings.editor_dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype: torch.dtype = getattr(torch, settings.editor_dtype)
    return dtype


def _quiet() -> None:
    # Both libraries write progress bars and harmless warnings into the worker's log.
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    for library in (diffusers_log, transformers_log):
        library.set_verbosity_error()
        library.disable_progress_bar()
    # For developers of pipelines; users can do nothing about them.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(diffusers|transformers)\.")


def _source(editor: str) -> Path | str:
    folder = Path(editor).expanduser()
    if folder.is_dir():
        verify_manifest(folder)
        return folder
    if folder.exists():
        raise EditorError(f"EACPS_EDITOR names a file, {editor!r}, not a folder.", hint=_HINT)
    if not _HUB_ID.fullmatch(editor):
        raise EditorError(
            f"EACPS_EDITOR names a folder that does not exist: {editor!r}.", hint=_HINT
        )
    return editor


def _pipeline_class(source: Path | str, settings: Settings) -> str:
    config = _index(source) if isinstance(source, Path) else _hub_index(source, settings)
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise EditorError(
            "The pipeline of EACPS_EDITOR contains its own code, which is never executed.",
            hint="Use a pipeline whose class is part of diffusers.",
        )
    if isinstance(source, Path):
        _refuse_pickles(source, config)
    return name


def _index(folder: Path) -> Mapping[str, Any]:
    try:
        config = parsed_json((folder / "model_index.json").read_text("utf-8"))
    except FileNotFoundError:
        raise EditorError(
            f"The folder of EACPS_EDITOR, {str(folder)!r}, has no model_index.json.", hint=_HINT
        ) from None
    except ValueError as error:
        raise EditorError(
            f"model_index.json of EACPS_EDITOR is not readable: {error}.", hint=_HINT
        ) from None
    if not isinstance(config, dict):
        raise EditorError("model_index.json of EACPS_EDITOR is not a JSON object.", hint=_HINT)
    return config


def _hub_index(name: str, settings: Settings) -> Mapping[str, Any]:
    from diffusers import DiffusionPipeline

    try:
        config = DiffusionPipeline.load_config(name, revision=settings.editor_revision or None)
    except Exception as error:
        raise EditorError(
            f"EACPS_EDITOR {name!r} is neither a local folder nor available from the hub "
            f"({type(error).__name__}).",
            hint="Check the name, the network, HF_HUB_OFFLINE and HF_TOKEN, or point "
            "EACPS_EDITOR at a downloaded folder.",
        ) from error
    return dict(config)


def _refuse_pickles(folder: Path, config: Mapping[str, Any]) -> None:
    for name in _components(config):
        files = list((folder / name).glob("*")) if (folder / name).is_dir() else []
        kinds = {file.suffix.lower() for file in files}
        for file in files:
            if file.name.endswith(".safetensors.index.json"):
                _refuse_other_files(file)
        if kinds & _UNSAFE and ".safetensors" not in kinds:
            raise EditorError(
                f"The component {name!r} of EACPS_EDITOR has weights only in formats that can "
                f"execute code when loaded ({', '.join(sorted(kinds & _UNSAFE))}).",
                hint="Use a copy with .safetensors weights. If you trust the model, load it once "
                "elsewhere and call save_pretrained.",
            )


def _refuse_other_files(index: Path) -> None:
    """Refuse an index of .safetensors files that names other files, which would be loaded, too."""
    try:
        names = parsed_json(index.read_text("utf-8"))["weight_map"].values()
        others = sorted({str(name) for name in names if not str(name).endswith(".safetensors")})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise EditorError(
            f"{index} of EACPS_EDITOR is not readable: {error}.", hint=_HINT
        ) from None
    if others:
        raise EditorError(
            f"{index} of EACPS_EDITOR names weights that are not .safetensors files "
            f"({', '.join(others)[:200]}).",
            hint="Use a copy with .safetensors weights.",
        )


def _components(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, list) and len(value) == 2 and value[1]:
            yield name


def _pipeline(source: Path | str, settings: Settings, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(
            str(source),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            revision=settings.editor_revision or None,
        )
    except Exception as error:
        raise EditorError(
            f"The pipeline of EACPS_EDITOR, {settings.editor!r}, could not be loaded: "
            f"{first_line(error)}.",
            hint="Check that the download is complete and its weights are .safetensors files.",
        ) from error


def _adjust_scheduler(pipe: Any, settings: Settings) -> None:
    changes = dict(settings.pipeline_args.get("scheduler", {}))
    if not changes:
        return
    kind = _scheduler_class(changes.pop("_class_name", None)) or type(pipe.scheduler)
    try:
        pipe.scheduler = kind.from_config(pipe.scheduler.config, **changes)
    except Exception as error:
        raise SettingsError(
            f"The scheduler settings in EACPS_PIPELINE_ARGS are invalid: {first_line(error)}.",
            hint='Write them as {"scheduler": {"shift": 3.0}}.',
        ) from error


def _scheduler_class(name: object) -> Any:
    import diffusers

    if name is None:
        return None
    found = getattr(diffusers, str(name), None)
    if not (isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin)):
        raise SettingsError(
            f"EACPS_PIPELINE_ARGS names the scheduler {name!r}, which diffusers does not have.",
            hint='Write it as {"scheduler": {"_class_name": "DDIMScheduler"}}.',
        )
    return found


def _check_arguments(pipe: Any, settings: Settings) -> None:
    known = set(inspect.signature(type(pipe).__call__).parameters) - {"self", "args", "kwargs"}
    for name in call_arguments(settings):
        if name in _RESERVED:
            raise SettingsError(
                f"EACPS_PIPELINE_ARGS may not set {name!r}: {_RESERVED[name]}.",
                hint="Remove it from EACPS_PIPELINE_ARGS.",
            )
        if name not in known:
            raise SettingsError(
                f"EACPS_PIPELINE_ARGS sets {name!r}, which {type(pipe).__name__} does not accept.",
                hint=f"It accepts: {', '.join(sorted(known - _RESERVED.keys()))}.",
            )


def call_arguments(settings: Settings) -> dict[str, Any]:
    """EACPS_PIPELINE_ARGS without the scheduler's settings."""
    return {name: value for name, value in settings.pipeline_args.items() if name != "scheduler"}


def _load_lora(pipe: Any, settings: Settings) -> None:
    if not settings.lora:
        return
    file = Path(settings.lora).expanduser()
    where: tuple[str, dict[str, str]] = (settings.lora, {})
    if file.is_file():
        if file.suffix != ".safetensors":
            raise EditorError(
                f"EACPS_LORA names {file.name!r}; only .safetensors files are loaded.",
                hint="Convert the LoRA to safetensors.",
            )
        where = (str(file.parent), {"weight_name": file.name})
    try:
        pipe.load_lora_weights(where[0], use_safetensors=True, **where[1])
    except Exception as error:
        raise EditorError(
            f"The LoRA of EACPS_LORA, {settings.lora!r}, could not be loaded: {first_line(error)}.",
            hint="Check that it was made for this editor, and that the package peft is installed.",
        ) from error


def _move_to_device(pipe: Any, settings: Settings, device: torch.device) -> None:
    pipe.set_progress_bar_config(disable=True)
    try:
        if device.type == "cpu" or settings.offload == "none":
            pipe.to(device)
        elif settings.offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
    except torch.OutOfMemoryError as error:
        raise EditorError(
            f"The weights of EACPS_EDITOR do not fit into the memory of {device}.",
            hint="Set EACPS_OFFLOAD to model or sequential.",
        ) from error
    except EacpsError:
        raise
    except Exception as error:
        raise EditorError(
            f"The pipeline could not be moved to {device}: {first_line(error)}.",
            hint="Check EACPS_DEVICES and EACPS_OFFLOAD.",
        ) from error
