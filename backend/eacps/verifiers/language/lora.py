"""Puts a LoRA of PEFT into a model on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from eacps.errors import ScoringError, SettingsError, first_line
from eacps.weights import existing_path, verify_manifest

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"
_OLD_NAMES: Final = {
    "base_model.model.visual.": "base_model.model.model.visual.",
    "base_model.model.model.layers.": "base_model.model.model.language_model.layers.",
}
"""How Qwen2.5-VL's layers were called when EditScore's first LoRAs were trained."""


def with_lora(model: Any, folder: str) -> Any:
    """The model with a LoRA merged into its weights; raises if it does not fit the model."""
    path = _checked(folder)
    try:
        changed, misplaced = _loaded(model, path)
    except Exception as error:
        raise ScoringError(
            f"The LoRA in {path} cannot be loaded: {first_line(error)}.",
            hint="It must be a LoRA of PEFT that was trained for this model.",
        ) from None
    if misplaced:
        raise ScoringError(
            f"The LoRA in {path} does not fit the judge's model: {len(misplaced)} weights have no "
            f"counterpart, such as {misplaced[0]}.",
            hint="Name the model that it was trained for in EACPS_VERIFIER.",
        )
    return changed.merge_and_unload()


def _loaded(model: Any, path: Path) -> tuple[Any, Sequence[str]]:
    """The model with the LoRA beside its weights, and what is only in one of the two."""
    from peft import LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    config = PeftConfig.from_pretrained(str(path))
    if not isinstance(config, LoraConfig):
        raise TypeError(f"it is {config.peft_type.value}, not LORA")
    # Other ways to begin training change the base's weights, too.
    config.init_lora_weights = True
    config.inference_mode = True
    # Read here, because PEFT would take a file with pickle where there is no other.
    weights = load_file(path / WEIGHTS)
    if any(".language_model." in name for name, _ in model.named_modules()):
        weights = {_renamed(name): weight for name, weight in weights.items()}
    changed = get_peft_model(model, config)
    found: Any = set_peft_model_state_dict(changed, weights)
    return changed, [
        *found.unexpected_keys,
        *(name for name in found.missing_keys if ".lora_" in name),
    ]


def _renamed(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _checked(folder: str) -> Path:
    """The folder, if it has what a LoRA needs; weights that need pickle are refused."""
    path = existing_path(folder)
    if path is None or not path.is_dir():
        raise SettingsError(
            f"The option lora names {folder[:200]!r}, which is no folder.",
            hint=f"Name a folder with {CONFIG} and {WEIGHTS}.",
        )
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise SettingsError(
            f"The LoRA in {path} has no {missing[0]}.",
            hint=f"A LoRA of PEFT has {CONFIG} and {WEIGHTS}; files with pickle are not read.",
        )
    verify_manifest(path)
    return path
