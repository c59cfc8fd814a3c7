"""Converts tt-scale-flux's config files to our settings and back."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eacps.domain import SearchPlan, SearchResult
from eacps.errors import SettingsError
from eacps.files import parsed_json
from eacps.offline.output import OWN_JUDGE
from eacps.scoring.registry import known_ranges
from eacps.search import budget, describe, names
from eacps.settings import Settings, load_settings, variable_names

KEYS: Final = (
    "pretrained_model_name_or_path",
    "torch_dtype",
    "pipeline_call_args",
    "verifier_args",
    "search_args",
    "batch_size_for_img_gen",
    "use_low_gpu_vram",
    "prompt",
    "num_prompts",
    "pipeline_config_path",
)
DTYPES: Final = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    **{name: name for name in ("float32", "float16", "bfloat16", "auto")},
}
CALL_ARGUMENTS: Final = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "image_guidance_scale": "image_guidance",
    "negative_prompt": "negative_prompt",
}
PASSED_ON: Final = (
    "eta", "guidance_rescale", "max_area", "max_sequence_length", "negative_prompt_2", "scheduler",
    "sigmas", "text_encoder_out_layers", "timesteps", "true_cfg_scale",
)  # fmt: skip
"""The arguments of pipeline calls that a config may set besides those that are settings. A config
comes from somebody else, so it may not set a callback, or embeddings that replace the task's."""

VERIFIER_ARGUMENTS: Final = ("name", "choice_of_metric")
UNUSED_VERIFIER_ARGUMENTS: Final = (
    "max_new_tokens", "model_name", "prompt_path", "seed", "use_low_gpu_vram",
)  # fmt: skip
OVERALL: Final = "overall_score"
EQUIVALENTS: Final = {"accuracy_to_prompt": "pf"}
THEIR_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "random": {"rounds": 4},
    "zero_order": {"rounds": 4, "num_neighbors": 4, "threshold": 0.95},
}
THEIR_NAMES: Final = {"random": "random", "zero_order": "zero-order"}


@dataclass(frozen=True)
class RunConfig:
    """The content of a config file: settings by field, the keys they came from, the prompt, and
    notes about unused keys."""

    path: Path | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None
    notes: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    """The settings that came from options of the command instead of the file."""

    def settings(self, **stronger: Any) -> Settings:
        """Load settings; `stronger` overrides the file, which overrides the environment."""
        try:
            return load_settings(**{**self.chosen, **stronger})
        except SettingsError as error:
            raise self._blamed(error) from None

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that give another process the file's settings."""
        return {
            variable_names(name)[0]: value if isinstance(value, str) else json.dumps(value)
            for name, value in self.chosen.items()
        }

    def _blamed(self, error: SettingsError) -> SettingsError:
        """The error, with the name of the file's key if the setting came from there."""
        variable, _, problem = error.message.partition(":")
        for name, key in self.keys.items():
            if variable not in variable_names(name):
                continue
            if name in self.options:
                return SettingsError(f"{key}:{problem}", hint=f"Change {key}.")
            return SettingsError(f"{self.path}: {key}:{problem}", hint=f"Change {key}.")
        return error


def read_config(path: Path) -> RunConfig:
    """Read a config file of tt-scale-flux."""
    reader = _Reader(path)
    content = {name: value for name, value in _content(path).items() if value is not None}
    reader.require_known("", content, KEYS)
    reader.take_editor(content)
    reader.take_call_arguments(reader.section(content, "pipeline_call_args"))
    search = reader.section(content, "search_args")
    metric = search.pop("choice_of_metric", None)
    reader.take_verifier(reader.section(content, "verifier_args"), metric)
    reader.take_search(search)
    prompt = content.get("prompt")
    if not isinstance(prompt, str | None):
        raise reader.refusal("prompt", f"{prompt!r} is not a string")
    return RunConfig(path, reader.chosen, reader.keys, prompt, tuple(reader.notes))


def config_of(settings: Settings, result: SearchResult) -> dict[str, Any]:
    """The config file of a search in tt-scale-flux's format, which `read_config` reads."""
    return {
        "pretrained_model_name_or_path": settings.editor,
        "torch_dtype": settings.editor_dtype,
        "pipeline_call_args": {
            "height": settings.max_side,
            "width": settings.max_side,
            **{key: getattr(settings, name) for key, name in CALL_ARGUMENTS.items()},
            **settings.pipeline_args,
        },
        "verifier_args": {"name": OWN_JUDGE, "choice_of_metric": metric_of(settings)},
        "search_args": _search_arguments(result.task.plan),
        "batch_size_for_img_gen": settings.editor_batch_size,
        "use_low_gpu_vram": settings.offload != "none",
        "prompt": result.task.instruction,
        "num_prompts": None,
    }


def metric_of(settings: Settings) -> str:
    """The metric that ranks candidates, or the overall score if there are several."""
    alone = settings.potential == "weighted" and len(settings.weights) == 1
    return next(iter(settings.weights)) if alone else OVERALL


def _search_arguments(plan: SearchPlan) -> dict[str, Any]:
    defaults = {known.name: known.default for known in describe(plan.strategy).parameters}
    params = {**defaults, **plan.params}
    if plan.strategy not in THEIR_NAMES:
        return {"search_method": plan.strategy, **params}
    rounds = params.pop("rounds")
    method = THEIR_NAMES[plan.strategy]
    return {"search_method": method, "search_rounds": rounds, **params}


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}.", hint="Correct --config."
        ) from None
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}.", hint="Correct --config.") from None
    if not isinstance(content, dict):
        raise SettingsError(
            f"{path} is not a config: it must be a JSON object.",
            hint='Begin with {"search_args": {"search_method": "random", "search_rounds": 4}}.',
        )
    return content


class _Reader:
    """Collects settings, the keys that they came from, and notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.chosen: dict[str, Any] = {}
        self.keys: dict[str, str] = {}
        self.notes: list[str] = []

    def take_editor(self, content: Mapping[str, Any]) -> None:
        """Read the editor, its data type and the batch size."""
        if "pretrained_model_name_or_path" in content:
            name = content["pretrained_model_name_or_path"]
            self._choose("editor", name, "pretrained_model_name_or_path")
        if "torch_dtype" in content:
            name = content["torch_dtype"]
            if not isinstance(name, str) or name not in DTYPES:
                raise self.refusal("torch_dtype", f"{name!r} is not one of {', '.join(DTYPES)}")
            self._choose("editor_dtype", DTYPES[name], "torch_dtype")
        if "batch_size_for_img_gen" in content:
            count = content["batch_size_for_img_gen"]
            self._choose("editor_batch_size", count, "batch_size_for_img_gen")
        if content.get("use_low_gpu_vram"):
            self._choose("offload", "model", "use_low_gpu_vram")
        if "num_prompts" in content:
            self.notes.append("num_prompts is not used; select tasks with --task-ids.")

    def take_call_arguments(self, given: dict[str, Any]) -> None:
        """Read the arguments of pipeline calls; known ones without a setting are passed on."""
        if "num_frames" in given:
            raise self.refusal("pipeline_call_args.num_frames", "videos are not edited here")
        known = ("height", "width", *CALL_ARGUMENTS)
        sides = [given.pop(side) for side in ("height", "width") if side in given]
        if sides:
            if not all(isinstance(side, int) for side in sides):
                raise self.refusal("pipeline_call_args.height", "it must be an integer")
            self._choose("max_side", max(sides), "pipeline_call_args.height")
            if len(set(sides)) > 1:
                self.notes.append(
                    f"height and width: {max(sides)} is used as the longer side; an edit keeps the "
                    "aspect ratio of its source."
                )
        for key, name in CALL_ARGUMENTS.items():
            if key in given:
                self._choose(name, given.pop(key), f"pipeline_call_args.{key}")
        self.require_known("pipeline_call_args.", given, (*known, *PASSED_ON))
        if given:
            self._choose("pipeline_args", given, "pipeline_call_args")

    def take_verifier(self, given: Mapping[str, Any], metric: Any) -> None:
        """Read the metric that ranks candidates."""
        self.require_known("verifier_args.", given, VERIFIER_ARGUMENTS + UNUSED_VERIFIER_ARGUMENTS)
        named = given.get("choice_of_metric", metric)
        if metric is not None and metric != named:
            raise self.refusal("choice_of_metric", "verifier_args and search_args differ")
        judged_by = "the potential"
        if named not in (None, OVERALL):
            judged_by = self._metric(named)
            self._choose("potential", "weighted", "choice_of_metric")
            self._choose("weights", {judged_by: 1.0}, "choice_of_metric")
        if given.get("name", OWN_JUDGE) != OWN_JUDGE:
            self.notes.append(
                f"verifier_args.name {given['name']!r} is not used: this backend's scorers judge "
                f"by {judged_by}."
            )
        unused = [name for name in UNUSED_VERIFIER_ARGUMENTS if name in given]
        if unused:
            self.notes.append(f"verifier_args: not used: {', '.join(unused)}.")

    def _metric(self, named: Any) -> str:
        known = known_ranges(load_settings())
        metric = str(named) if str(named) in known else EQUIVALENTS.get(str(named))
        if metric is None:
            supported = ", ".join([OVERALL, *EQUIVALENTS, *sorted(known)])
            raise SettingsError(
                f"{self.path}: no scorer provides choice_of_metric {named!r}.",
                hint=f"Set it to one of: {supported}.",
            )
        return metric

    def take_search(self, given: dict[str, Any]) -> None:
        """Read the strategy and its parameters, under tt-scale-flux's names or ours."""
        if not given:
            return
        method = given.pop("search_method", "random")
        strategy = str(method).replace("-", "_")
        if strategy not in names():
            others = ", ".join(name for name in names() if name not in THEIR_NAMES)
            raise SettingsError(
                f"{self.path}: unknown search_method {method!r}.",
                hint=f"Use random or zero-order, or one of this backend: {others}.",
            )
        if strategy == "random":
            unused = [name for name in ("threshold", "num_neighbors") if name in given]
            self.notes += [f"search_args.{name} is for zero-order only." for name in unused]
            given = {name: value for name, value in given.items() if name not in unused}
        if "search_rounds" in given:
            given["rounds"] = given.pop("search_rounds")
        params = {**THEIR_DEFAULTS.get(strategy, {}), **given}
        try:
            budget(SearchPlan(strategy, params))
        except SettingsError as error:
            hint = error.hint.replace("EACPS_STRATEGY_PARAMS", "search_args")
            raise SettingsError(f"{self.path}: {error.message}", hint=hint) from None
        self._choose("strategy", strategy, "search_args.search_method")
        self._choose("strategy_params", params, "search_args")

    def section(self, content: Mapping[str, Any], name: str) -> dict[str, Any]:
        """An object of the file, without null values."""
        section = content.get(name, {})
        if not isinstance(section, dict):
            raise self.refusal(name, "it must be a JSON object")
        return {key: value for key, value in section.items() if value is not None}

    def require_known(self, where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
        """Refuse unknown keys, which would be ignored silently."""
        for name in given:
            if name == "export_args":
                raise self.refusal(name, "videos are not edited here")
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                meant = f"Did you mean {where}{nearest[0]}?" if nearest else ""
                raise SettingsError(
                    f"{self.path}: unknown key {where}{name}.",
                    hint=meant or f"Known: {', '.join(known)}.",
                )

    def refusal(self, key: str, problem: str) -> SettingsError:
        """The error for an invalid value."""
        return SettingsError(f"{self.path}: {key}: {problem}.", hint=f"Change {key}.")

    def _choose(self, name: str, value: Any, key: str) -> None:
        self.chosen[name] = value
        self.keys[name] = key
