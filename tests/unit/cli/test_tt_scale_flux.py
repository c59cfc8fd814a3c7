"""tt-scale-flux's files: its configs are understood, and its output is what it would write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eacps.domain import (
    Candidate,
    EditTask,
    Failure,
    Metric,
    Noise,
    SearchPlan,
    SearchResult,
    Trial,
    to_json,
)
from eacps.errors import SettingsError
from eacps.offline.output import InTheWayError
from eacps.offline.tt_scale_flux import config_of, metric_of, read_config
from eacps.offline.tt_scale_flux_output import seed_of, write_tree
from eacps.settings import Settings, load_settings

FLUX = {
    "pretrained_model_name_or_path": "black-forest-labs/FLUX.1-Kontext-dev",
    "torch_dtype": "bf16",
    "pipeline_call_args": {
        "height": 1024,
        "width": 768,
        "max_sequence_length": 512,
        "guidance_scale": 3.5,
        "num_inference_steps": 50,
    },
    "verifier_args": {"name": "gemini", "max_new_tokens": 800, "choice_of_metric": "overall_score"},
    "search_args": {"search_method": "random", "search_rounds": 4},
}
ZERO_ORDER = {
    "search_method": "zero-order",
    "search_rounds": 5,
    "threshold": 0.9,
    "num_neighbors": 3,
}
PROMPT = (
    "Photo of an athlete cat explaining it\u2019s latest scandal at a press conference to "
    "journalists."
)
PUBLISHED_STEM = (
    "prompt@Photo_of_an_athlete_cat_explaining_it_s_latest_scandal_at_a_press_conference_to_journ"
    "_hash@b9094b65"
)


def config(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def loaded(tmp_path: Path, content: Any, **stronger: Any) -> Settings:
    return read_config(config(tmp_path, content)).settings(**stronger)


def test_a_published_config_becomes_settings(tmp_path: Path) -> None:
    settings = loaded(tmp_path, FLUX)
    assert settings.editor == "black-forest-labs/FLUX.1-Kontext-dev"
    assert settings.editor_dtype == "bfloat16"
    assert (settings.steps, settings.guidance, settings.max_side) == (50, 3.5, 1024)
    assert settings.pipeline_args == {"max_sequence_length": 512}
    assert settings.plan.strategy == "random"
    assert settings.plan.params == {"rounds": 4}
    assert settings.potential == Settings().potential


def test_unused_keys_are_reported(tmp_path: Path) -> None:
    notes = "\n".join(read_config(config(tmp_path, {**FLUX, "num_prompts": 2})).notes)
    assert "'gemini' is not used: this backend's scorers judge" in notes
    assert "not used: max_new_tokens" in notes
    assert "1024 is used as the longer side" in notes
    assert "num_prompts" in notes


def test_what_can_be_followed_wholly_is_not_remarked_on(tmp_path: Path) -> None:
    quiet = {
        "pipeline_call_args": {"height": 512, "width": 512},
        "verifier_args": {"choice_of_metric": "pf"},
        "search_args": ZERO_ORDER,
        "num_prompts": None,
    }
    assert read_config(config(tmp_path, quiet)).notes == ()


def test_zero_order_search_keeps_its_settings(tmp_path: Path) -> None:
    plan = loaded(tmp_path, {"search_args": ZERO_ORDER}).plan
    assert plan.strategy == "zero_order"
    assert plan.params == {"rounds": 5, "threshold": 0.9, "num_neighbors": 3}


def test_search_args_that_are_left_out_are_as_in_tt_scale_flux(tmp_path: Path) -> None:
    plan = loaded(tmp_path, {"search_args": {"search_method": "zero-order"}}).plan
    assert plan.params == {"rounds": 4, "threshold": 0.95, "num_neighbors": 4}
    assert loaded(tmp_path, {"search_args": {"search_rounds": 2}}).plan.strategy == "random"


def test_a_config_may_name_a_strategy_that_only_this_backend_has(tmp_path: Path) -> None:
    plan = loaded(tmp_path, {"search_args": {"search_method": "eacps", "k": 6}}).plan
    assert (plan.strategy, plan.params) == ("eacps", {"k": 6})


@pytest.mark.parametrize(
    ("metric", "weights"),
    [("accuracy_to_prompt", {"pf": 1.0}), ("lpips", {"lpips": 1.0}), ("cons", {"cons": 1.0})],
)
@pytest.mark.parametrize("section", ["verifier_args", "search_args"])
def test_the_chosen_metric_alone_ranks(
    tmp_path: Path, section: str, metric: str, weights: Mapping[str, float]
) -> None:
    settings = loaded(tmp_path, {section: {"choice_of_metric": metric}})
    assert settings.potential == "weighted"
    assert settings.weights == weights
    assert metric_of(settings) == next(iter(weights))


def test_the_command_line_wins_over_the_file_and_the_file_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("EACPS_GUIDANCE=9\nEACPS_SEED=3\n")
    monkeypatch.setenv("EACPS_STEPS", "9")
    monkeypatch.setenv("EACPS_EDITOR_BATCH_SIZE", "9")
    monkeypatch.setenv("EACPS_STRATEGY_PARAMS", '{"k": 9}')
    file = {**FLUX, "batch_size_for_img_gen": 2}
    settings = loaded(tmp_path, file, devices="cpu", editor_dtype="float32")
    assert (settings.steps, settings.guidance, settings.editor_batch_size) == (50, 3.5, 2)
    assert settings.plan.params == {"rounds": 4}
    assert (settings.editor_dtype, settings.seed) == ("float32", 3)


def test_workers_get_the_settings_of_the_file_through_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EACPS_EDITOR_BATCH_SIZE", "9")
    (tmp_path / ".env").write_text('EACPS_STRATEGY_PARAMS={"k": 9}')
    content = {**FLUX, "batch_size_for_img_gen": 2, "use_low_gpu_vram": True}
    content["verifier_args"] = {"choice_of_metric": "pf"}
    asked = read_config(config(tmp_path, content))
    here = asked.settings()
    for name, value in asked.variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == here


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{oops", "config.json is not JSON"),
        ("[1]", "must be a JSON object"),
        ({"serch_args": {}}, "unknown key serch_args. Did you mean search_args?"),
        ({"height": 512}, "unknown key height. Known: pretrained_model"),
        ({"search_args": 4}, "search_args: it must be a JSON object"),
        ({"torch_dtype": "int8"}, "torch_dtype: 'int8' is not one of fp32"),
        ({"search_args": {"search_method": "path-search"}}, "Use random or zero-order, or one"),
        ({"search_args": {"serch_rounds": 2}}, "no parameter 'serch_rounds'. Change search_args."),
        ({"search_args": {**ZERO_ORDER, "threshold": 1.5}}, "threshold is 1.5"),
        ({"search_args": {"search_rounds": "4"}}, "rounds is '4'"),
        (
            {"verifier_args": {"choice_of_metric": "laion_aesthetic_score"}},
            "Set it to one of: overall_score, accuracy_to_prompt, ",
        ),
        ({"verifier_args": {"choice_of_metric": ["pf"]}}, "provides choice_of_metric"),
        ({"verifier_args": {"nam": "qwen"}}, "Did you mean verifier_args.name?"),
        (
            {
                "verifier_args": {"choice_of_metric": "pf"},
                "search_args": {"choice_of_metric": "cons"},
            },
            "verifier_args and search_args differ",
        ),
        ({"pipeline_call_args": {"num_frames": 81}}, "videos are not edited"),
        ({"pipeline_call_args": {"callback": 1}}, "unknown key pipeline_call_args.callback"),
        ({"pipeline_call_args": {"custom_pipeline": "x"}}, "unknown key pipeline_call_args.custom"),
        ({"pipeline_call_args": {"prompt": "x"}}, "unknown key pipeline_call_args.prompt"),
        ({"pipeline_call_args": {"eat": 1}}, "Did you mean pipeline_call_args.eta?"),
        ('{"prompt":' * 100_000, "config.json is not JSON: it is nested too deeply"),
        ({"export_args": {"fps": 15}}, "videos are not edited"),
        ({"pipeline_call_args": {"height": "tall"}}, "it must be an integer"),
        (
            {"pipeline_call_args": {"num_inference_steps": 1}},
            "config.json: pipeline_call_args.num_inference_steps: Input should be greater",
        ),
        ({"batch_size_for_img_gen": 0}, "config.json: batch_size_for_img_gen: "),
        ({"prompt": 3}, "prompt: 3 is not a string"),
    ],
)
def test_a_wrong_config_is_refused_by_key(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, content)
    assert words in str(refused.value)


def test_a_missing_config_stops_the_command_with_one_line(eacps: Any) -> None:
    shown = eacps("run", "--config", "gone.json", "--image", "a.png", "--out", "results")
    assert shown.code == 2
    assert "gone.json cannot be read" in shown.err
    assert len(shown.err.splitlines()) == 1


def candidate(
    number: int, potential: float | None, search_round: int, parent: Trial | None = None
) -> Candidate:
    noise = parent.noise.moved(0.3, 100 + number) if parent else Noise(number)
    trial = Trial(f"c{number}", noise, round=search_round, parent=parent.id if parent else None)
    metrics = (Metric("pf", 0.25, 0.5, 1.0, 0.5), Metric("lpips", 0.1, 0.9, 0.0, 0.0))
    failure = Failure("editor_nan", "no colours") if potential is None else None
    return Candidate(trial, "a.png", None, metrics, potential, failure=failure)


def result(plan: SearchPlan, *candidates: Candidate, prompt: str = PROMPT) -> SearchResult:
    ranked = sorted(candidates, key=lambda one: -(one.potential or -9))
    return SearchResult(EditTask("a.png", prompt, plan=plan), tuple(ranked), 4, 1.0)


def written(folder: Path, name: str, content: SearchResult) -> None:
    """What `eacps run` leaves of a task."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for one in content.usable:
        colour = (int(one.id[1:]) * 20, 0, 0)
        Image.new("RGB", (8, 8), colour).save(folder / name / f"{one.id}.png")
    report = {"name": name, "best": content.best.id, **to_json(content)}
    (folder / f"{name}.json").write_text(json.dumps(report))


def tree(folder: Path, name: str) -> dict[str, Any]:
    inside = sorted((folder / "tt-scale-flux" / name).iterdir())
    return {
        path.name: json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in inside
    }


ZERO_PLAN = SearchPlan("zero_order", {"rounds": 2, "num_neighbors": 1})
BASE = candidate(1, 0.5, 1)
TWO_ROUNDS = (
    BASE,
    candidate(2, 0.7, 1, BASE.trial),
    candidate(3, 0.6, 2),
    candidate(4, 0.4, 2, candidate(3, 0.6, 2).trial),
    candidate(5, None, 2),
)


def test_images_and_rounds_are_named_and_told_as_in_tt_scale_flux(tmp_path: Path) -> None:
    written(tmp_path, "cat", result(ZERO_PLAN, *TWO_ROUNDS))
    write_tree(tmp_path, "cat", Settings())
    files = tree(tmp_path, "cat")
    stems = {"i@1_s@1": "c1", "i@1_s@102": "c2", "i@2_s@3": "c3", "i@2_s@104": "c4"}
    images = {f"{PUBLISHED_STEM}_{stem}.png": image for stem, image in stems.items()}
    reports = {f"{PUBLISHED_STEM}_i@1_s@102.json", f"{PUBLISHED_STEM}_i@2_s@3.json"}
    assert files.keys() == {"config.json", *images, *reports}
    for name, image in images.items():
        assert files[name] == (tmp_path / "cat" / f"{image}.png").read_bytes()

    first, second = (files[name] for name in sorted(reports))
    assert first["prompt"] == PROMPT
    assert (first["search_round"], first["num_noises"], first["best_noise_seed"]) == (1, 2, 102)
    assert first["best_score"] == {
        "explanation": "c2, child of c1 at angle 0.3: pf 0.25 gives +0.5.",
        "score": 0.7,
    }
    assert first["choice_of_metric"] == "overall_score"
    assert Path(first["best_img_path"]).read_bytes() == files[f"{PUBLISHED_STEM}_i@1_s@102.png"]
    assert first["neighbors_improvement"] is True
    assert (second["num_noises"], second["neighbors_improvement"]) == (3, False)
    assert files["config.json"]["search_args"]["search_method"] == "zero-order"


def test_the_tree_can_be_written_again_and_leaves_nothing_of_an_older_one(tmp_path: Path) -> None:
    plan = SearchPlan("random", {"rounds": 1})
    written(tmp_path, "cat", result(plan, candidate(1, 0.5, 1), candidate(2, 0.6, 1)))
    write_tree(tmp_path, "cat", Settings())
    before = tree(tmp_path, "cat")
    write_tree(tmp_path, "cat", Settings())
    assert tree(tmp_path, "cat") == before

    written(tmp_path, "cat", result(plan, candidate(7, 0.5, 1), prompt="add a hat"))
    write_tree(tmp_path, "cat", Settings())
    assert not tree(tmp_path, "cat").keys() & before.keys() - {"config.json"}
    assert [path.name for path in (tmp_path / "tt-scale-flux").iterdir()] == ["cat"]

    (tmp_path / "cat.json").write_text('{"error": {"code": "bad_image", "message": "broken"}}')
    write_tree(tmp_path, "cat", Settings())
    assert not list((tmp_path / "tt-scale-flux").iterdir())


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("change", ["edited", "added", "theirs"])
def test_a_tree_that_somebody_changed_or_made_is_left_alone(
    tmp_path: Path, change: str, fails: bool
) -> None:
    plan = SearchPlan("random", {"rounds": 1})
    written(tmp_path, "cat", result(plan, candidate(1, 0.5, 1)))
    folder = tmp_path / "tt-scale-flux" / "cat"
    if change == "theirs":
        folder.mkdir(parents=True)
    else:
        write_tree(tmp_path, "cat", Settings())
    name = "notes.txt" if change == "added" else "config.json"
    (folder / name).write_text('{"prompt": "mine"}')
    before = tree_of(folder)
    if fails:
        (tmp_path / "cat.json").write_text('{"error": {"code": "bad_image", "message": "broken"}}')
    with pytest.raises(InTheWayError, match="is in the way"):
        write_tree(tmp_path, "cat", Settings())
    assert tree_of(folder) == before


def test_a_tree_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    plan = SearchPlan("random", {"rounds": 1})
    written(tmp_path, "cat", result(plan, candidate(1, 0.5, 1)))
    write_tree(tmp_path, "cat", Settings())
    before = tree(tmp_path, "cat")
    shutil.rmtree(tmp_path / ".eacps")
    write_tree(tmp_path, "cat", Settings())
    assert tree(tmp_path, "cat") == before


def tree_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_prompt_on_two_images_makes_two_trees(tmp_path: Path) -> None:
    plan = SearchPlan("random", {"rounds": 1})
    for name in ("cat", "dog"):
        written(tmp_path, name, result(plan, candidate(1, 0.5, 1)))
        write_tree(tmp_path, name, Settings())
    assert len(tree(tmp_path, "cat")) == len(tree(tmp_path, "dog")) == 3


@pytest.mark.parametrize(
    "plan",
    [
        SearchPlan("random", {"rounds": 2}),
        ZERO_PLAN,
        SearchPlan("eacps", {"k": 3}),
        SearchPlan("halving", {"n": 4, "rungs": [[0.5, 2]]}),
    ],
    ids=lambda plan: plan.strategy,
)
def test_the_written_config_starts_the_same_search_again(tmp_path: Path, plan: SearchPlan) -> None:
    settings = Settings(
        strategy=plan.strategy,
        strategy_params=dict(plan.params),
        steps=5,
        guidance=4.5,
        negative_prompt="blurred",
        pipeline_args={"eta": 0.5},
        max_side=256,
        potential="weighted",
        weights={"cons": 1.0},
        editor_dtype="float32",
        editor_batch_size=3,
    )
    content = config_of(settings, result(plan, candidate(1, 0.5, 1)))
    asked = read_config(config(tmp_path, content))
    again = asked.settings()
    assert asked.notes == ()
    assert asked.prompt == PROMPT
    assert again.strategy_params.items() >= plan.params.items()
    assert again.model_copy(update={"strategy_params": dict(plan.params)}) == settings


def test_neighbours_that_share_a_seed_are_told_apart_by_their_last_move() -> None:
    base = Trial("c1", Noise(7))
    moved = Trial("c2", Noise(7).moved(0.1, 11).moved(0.1, 12))
    assert (seed_of(base), seed_of(moved)) == (7, 12)
