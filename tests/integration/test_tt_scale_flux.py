"""`eacps run` with a config of tt-scale-flux: real processes, a real search, its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from tests.integration.test_command_line import Shell, shell

__all__ = ["shell"]
STEPS = 3
ROUNDS = 2
CONFIG = {
    "torch_dtype": "fp32",
    "pipeline_call_args": {"height": 256, "width": 256, "num_inference_steps": STEPS},
    "verifier_args": {"name": "gemini", "choice_of_metric": "accuracy_to_prompt"},
    "search_args": {"search_method": "random", "search_rounds": ROUNDS},
}


def tree(folder: Path) -> dict[str, Any]:
    return {
        path.name: json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
        for path in folder.iterdir()
    }


def test_a_config_decides_the_search_and_its_files_are_written_on_request(shell: Shell) -> None:
    (shell.folder / "flux.json").write_text(json.dumps(CONFIG))
    lines = [
        {"id": f"bear-{number}", "image": f"bear-{number}.png", "prompt": bear.instruction}
        for number, bear in enumerate(shell.bears[:2])
    ]
    (shell.folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    command = ("run", "--config", "flux.json", "--from-file", "tasks.jsonl", "--out", "results")

    code, shown = shell.run(*command, "--tt-scale-flux-output")
    assert code == 0, shown + shell.log()
    assert "'gemini' is not used" in shown
    trees = {}
    for number, bear in enumerate(shell.bears[:2]):
        report = shell.report(f"bear-{number}")
        assert report["task"]["plan"]["strategy"] == "random"
        assert report["task"]["plan"]["steps"] == STEPS
        assert len(report["candidates"]) == 6
        best = report["candidates"][0]
        assert [m["name"] for m in best["metrics"] if m["weight"]] == ["pf"]

        files = trees[number] = tree(shell.results / "tt-scale-flux" / f"bear-{number}")
        assert sum(name.endswith(".png") for name in files) == 6
        facts = [files[name] for name in files if name.endswith(".json") and "_i@" in name]
        assert sorted(fact["search_round"] for fact in facts) == [1, 2]
        assert {fact["num_noises"] for fact in facts} == {2, 4}
        top = max(facts, key=lambda fact: fact["best_score"]["score"])
        assert top["prompt"] == bear.instruction
        assert top["best_noise_seed"] == best["trial"]["noise"]["seed"]
        assert top["choice_of_metric"] == "pf"
        winner = shell.results / f"bear-{number}" / "best.png"
        assert Path(top["best_img_path"]).read_bytes() == winner.read_bytes()
        assert files["config.json"]["pipeline_call_args"]["num_inference_steps"] == STEPS

    # The config that was written asks for the same search: it is kept, and its files come back.
    searched = shell.batches()
    shutil.rmtree(shell.results / "tt-scale-flux")
    (shell.folder / "flux.json").write_text(json.dumps(trees[0]["config.json"]))
    code, shown = shell.run(*command, "--tt-scale-flux-output")
    assert code == 0, shown
    assert "Kept 2 of 2 tasks that are already finished." in shown
    assert shell.batches() == searched
    for number, files in trees.items():
        assert tree(shell.results / "tt-scale-flux" / f"bear-{number}") == files

    widths = []
    for folder in ("results", "results/tt-scale-flux"):
        code, shown = shell.run("collage", folder, "--out", "collage.png")
        assert code == 0, shown
        with Image.open(shell.folder / "collage.png") as picture:
            widths.append(picture.width)
    # Ours shows the source as well.
    assert widths[0] > widths[1] > 400
