"""What cannot be loaded is refused in a sentence that names the setting."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from eacps.editors import open_editor
from eacps.editors.diffusers.sizing import working_size
from eacps.editors.registry import FAMILIES, family_of
from eacps.errors import EacpsError, SettingsError
from tests.tiny_pipelines import BUILDERS
from tests.unit.editors.editor_cases import images, opened, segments, task, tiny_settings, trials


@pytest.fixture
def copied(folders: Any, tmp_path: Path) -> Path:
    """A tiny editor's folder, to be damaged."""
    return Path(shutil.copytree(folders["instruct_pix2pix"], tmp_path / "editor"))


def refusal(folder: Path | str, device: str = "cpu", **changes: Any) -> str:
    with pytest.raises(EacpsError) as caught:
        open_editor(tiny_settings(Path(folder), **changes), device)
    return str(caught.value)


def test_a_missing_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere")
    assert "EACPS_EDITOR" in message
    assert "nowhere" in message


def test_a_hub_id_without_network() -> None:
    message = refusal("nobody/such-editor")
    assert "EACPS_EDITOR" in message
    assert "HF_HUB_OFFLINE" in message


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "not a folder" in refusal(tmp_path / "model.safetensors")


def test_a_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    assert "model_index.json" in refusal(tmp_path)


def test_a_broken_index(copied: Path) -> None:
    (copied / "model_index.json").write_text("{")
    assert "model_index.json" in refusal(copied)


def test_corrupt_weights(copied: Path) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert "EACPS_EDITOR" in refusal(copied)


def test_missing_weights(copied: Path) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "EACPS_EDITOR" in refusal(copied)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt"])
def test_weights_that_can_run_code_when_read(copied: Path, suffix: str) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(suffix))
    message = refusal(copied)
    assert "unet" in message
    assert ".safetensors" in message


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "pickled.bin"}}', "{}", "[", "[]"])
def test_an_index_that_names_other_files(copied: Path, index: str) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    message = refusal(copied)
    assert "diffusion_pytorch_model.safetensors.index.json" in message
    assert "pickled.bin" in message or "not readable" in message


def test_a_pipeline_that_brings_its_own_code(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    index["_class_name"] = ["pipeline", "MyPipeline"]
    (copied / "model_index.json").write_text(json.dumps(index))
    (copied / "pipeline.py").write_text("raise SystemExit('ran')")
    assert "own code" in refusal(copied)


def test_a_part_that_brings_its_own_code(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    index["unet"] = ["evil", "Evil"]
    (copied / "model_index.json").write_text(json.dumps(index))
    (copied / "unet" / "evil.py").write_text("raise SystemExit('ran')")
    assert "EACPS_EDITOR" in refusal(copied)


def test_an_unknown_pipeline_lists_the_supported_ones(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPipeline"
    (copied / "model_index.json").write_text(json.dumps(index))
    message = refusal(copied)
    assert "StableDiffusionPipeline" in message
    assert "QwenImageEditPlusPipeline" in message


def test_changed_demo_weights(tmp_path: Path) -> None:
    from eacps.settings import DEMO_PACK

    pack = Path(shutil.copytree(DEMO_PACK, tmp_path / "pack"))
    weights = pack / "editor-early" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1")
    assert "not the published" in refusal(pack / "editor-early")


def test_a_single_step_is_refused(folders: Any) -> None:
    settings = tiny_settings(folders["qwen_edit_plus"]).model_copy(update={"steps": 1})
    with pytest.raises(SettingsError, match="EACPS_STEPS"):
        open_editor(settings, "cpu")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"latents": 1}, "latents"),
        ({"num_inference_steps": 1}, "EACPS_STEPS"),
        ({"no_such_thing": 1}, "no_such_thing"),
        ({"scheduler": {"num_train_timesteps": "many"}}, "scheduler"),
        ({"scheduler": {"_class_name": "NoSuchScheduler"}}, "NoSuchScheduler"),
        ({"scheduler": {"_class_name": "UNet2DConditionModel"}}, "UNet2DConditionModel"),
    ],
)
def test_wrong_pipeline_arguments(folders: Any, arguments: dict[str, Any], word: str) -> None:
    message = refusal(folders["qwen_edit_plus"], pipeline_args=arguments)
    assert word in message
    assert "EACPS_PIPELINE_ARGS" in message


def test_the_scheduler_can_be_set_for_a_distilled_lora(folders: Any) -> None:
    arguments = {"scheduler": {"shift_terminal": None, "base_shift": 1.1, "max_shift": 1.1}}
    settings = tiny_settings(folders["qwen_edit_plus"], pipeline_args=arguments)
    editor = opened(settings)
    assert editor.family.pipe.scheduler.config.shift_terminal is None
    assert editor.open(task(), images()).advance(trials(1))[0].image is not None


def test_another_scheduler_can_be_put_in_place(folders: Any) -> None:
    arguments = {"scheduler": {"_class_name": "DDIMScheduler", "clip_sample": False}}
    settings = tiny_settings(folders["instruct_pix2pix"], pipeline_args=arguments)
    editor = opened(settings)
    scheduler = editor.family.pipe.scheduler
    assert type(scheduler).__name__ == "DDIMScheduler"
    assert scheduler.config.clip_sample is False
    assert scheduler.config.beta_schedule == "scaled_linear", "what it shares with the former stays"
    assert editor.open(task(), images()).advance(trials(1))[0].image is not None


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there(folders: Any, device: str) -> None:
    assert "EACPS_DEVICES" in refusal(folders["flux2_klein"], device=device)


def test_a_missing_lora(folders: Any, tmp_path: Path) -> None:
    assert "EACPS_LORA" in refusal(folders["flux2_klein"], lora=str(tmp_path / "none"))


def test_a_lora_that_can_run_code_when_read(folders: Any, tmp_path: Path) -> None:
    (tmp_path / "lora.bin").touch()
    assert "safetensors" in refusal(folders["flux2_klein"], lora=str(tmp_path / "lora.bin"))


@pytest.mark.parametrize("name", BUILDERS)
def test_bfloat16_renders(name: str, folders: Any) -> None:
    editor = opened(tiny_settings(folders[name], editor_dtype="bfloat16"))
    denoiser = getattr(editor.family.pipe, editor.family.denoiser)
    assert denoiser.dtype == torch.bfloat16
    assert editor.open(task(), images()).advance(trials(1, 2))[1].image is not None


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, eacps.editors, eacps.scoring; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("size", "longer", "multiple", "expected"),
    [
        ((640, 480), 512, 16, (512, 384)),
        ((256, 256), 64, 4, (64, 64)),
        ((4000, 10), 1024, 16, (1024, 16)),
        ((100, 200), 1000, 16, (496, 992)),
        ((50, 50), 10, 16, (16, 16)),
    ],
)
def test_working_sizes(
    size: tuple[int, int], longer: int, multiple: int, expected: tuple[int, int]
) -> None:
    assert working_size(size, longer, multiple) == expected


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with one entry point for editor families."""

    def install(value: str, code: str) -> None:
        (tmp_path / "strange_editor.py").write_text(code)
        facts = tmp_path / "strange-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
        point = f"[eacps.families]\nStableDiffusionPipeline = {value}\n"
        (facts / "entry_points.txt").write_text(point)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "strange_editor", raising=False)

    return install


def test_another_package_can_bring_a_family(installed: Any) -> None:
    installed(
        "strange_editor:Strange",
        "from eacps.editors.families.instruct_pix2pix import InstructPix2Pix\n"
        "class Strange(InstructPix2Pix):\n    title = 'Strange'\n",
    )
    assert family_of("StableDiffusionPipeline").title == "Strange"
    assert "StableDiffusionPipeline" in FAMILIES.names()


@pytest.mark.parametrize("code", ["raise ValueError('broken')", "Strange = 3"])
def test_a_broken_family_of_another_package_is_named(installed: Any, code: str) -> None:
    installed("strange_editor:Strange", code)
    with pytest.raises(SettingsError, match="StableDiffusionPipeline"):
        family_of("StableDiffusionPipeline")


def test_a_lora_changes_the_image(folders: Any, tmp_path: Path) -> None:
    import peft

    plain = opened(tiny_settings(folders["qwen_edit_plus"]))
    pipe = type(plain.family.pipe).from_pretrained(folders["qwen_edit_plus"])
    torch.manual_seed(0)
    pipe.transformer.add_adapter(
        peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_k"])
    )
    pipe.save_lora_weights(tmp_path, peft.get_peft_model_state_dict(pipe.transformer))
    file = tmp_path / "pytorch_lora_weights.safetensors"
    for lora in (tmp_path, file):
        settings = tiny_settings(folders["qwen_edit_plus"], lora=str(lora))
        changed = opened(settings).open(task(), images())
        before = plain.open(task(), images()).denoise(segments(1)).images
        assert float((changed.denoise(segments(1)).images - before).abs().max()) > 1e-3


def test_warnings_for_developers_of_pipelines_stay_out_of_the_log(copied: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        open_editor(tiny_settings(copied), "cpu")
        for module in ("diffusers.models.unets", "transformers.models.clip", "somebody.else"):
            text = f"{module} will change"
            warnings.warn_explicit(text, FutureWarning, "file.py", 1, module=module)
    future = [str(one.message) for one in shown if one.category is FutureWarning]
    assert future == ["somebody.else will change"]
