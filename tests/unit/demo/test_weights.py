from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from demo.manifest import PACK, write_manifest
from eacps.errors import EditorError
from eacps.weights import verify_manifest, weights_digest


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    (folder / "editor" / "unet").mkdir(parents=True)
    (folder / "editor" / "unet" / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "editor" / "unet" / "config.json").write_text('{"width": 48}')
    (folder / "clip").mkdir()
    (folder / "clip" / "open_clip_model.safetensors").write_bytes(b"clip")
    (folder / "README.md").write_text("a model card")
    write_manifest(folder)
    return folder


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def test_untouched_weights_pass(pack: Path) -> None:
    verify_manifest(pack)
    verify_manifest(pack / "editor")


def test_a_flipped_byte_is_found_and_its_file_named(pack: Path) -> None:
    _flip_a_byte(pack / "editor" / "unet" / "model.safetensors")
    with pytest.raises(EditorError) as caught:
        verify_manifest(pack / "editor")
    message = str(caught.value)
    assert "unet/model.safetensors" in message
    assert "git checkout backend/eacps/demo/pack" in message
    assert "EACPS_EDITOR" in message


def test_a_missing_file_is_named(pack: Path) -> None:
    (pack / "editor" / "unet" / "config.json").unlink()
    with pytest.raises(EditorError, match=r"unet/config\.json is missing"):
        verify_manifest(pack / "editor")


def test_damage_elsewhere_in_the_pack_does_not_stop_this_folder(pack: Path) -> None:
    _flip_a_byte(pack / "editor" / "unet" / "model.safetensors")
    verify_manifest(pack / "clip")


def test_an_edited_model_card_is_no_damage(pack: Path) -> None:
    (pack / "README.md").write_text("another model card")
    verify_manifest(pack)


def test_a_folder_without_a_manifest_passes(tmp_path: Path) -> None:
    verify_manifest(tmp_path)


def test_somebody_elses_manifest_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    verify_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"format": "eacps-weights-1"}',
        '{"format": "eacps-weights-1", "files": {"editor/x": 1}}',
    ],
)
def test_a_broken_manifest_is_an_error_that_names_it(pack: Path, text: str) -> None:
    (pack / "manifest.json").write_text(text)
    with pytest.raises(EditorError, match=r"manifest\.json"):
        verify_manifest(pack / "editor")


@pytest.mark.parametrize("with_manifest", [True, False])
def test_the_digest_does_not_depend_on_where_the_folder_lies(
    pack: Path, tmp_path: Path, with_manifest: bool
) -> None:
    if not with_manifest:
        (pack / "manifest.json").unlink()
    copy = shutil.copytree(pack, tmp_path / "elsewhere" / "pack")
    assert weights_digest(pack / "editor") == weights_digest(copy / "editor")


def test_the_digest_changes_with_a_config_of_the_same_size(pack: Path) -> None:
    (pack / "manifest.json").unlink()
    before = weights_digest(pack / "editor")
    (pack / "editor" / "unet" / "config.json").write_text('{"width": 64}')
    assert weights_digest(pack / "editor") != before


def test_the_digest_changes_when_new_weights_are_listed(pack: Path) -> None:
    before = weights_digest(pack / "editor")
    _flip_a_byte(pack / "editor" / "unet" / "model.safetensors")
    write_manifest(pack)
    assert weights_digest(pack / "editor") != before


@pytest.mark.parametrize("name", ["", "Qwen/Qwen-Image-Edit-2511", "ViT-B-32/laion2b_s34b_b79k"])
def test_what_is_no_folder_names_itself(name: str) -> None:
    assert weights_digest(name) == name


def test_the_shipped_pack_is_what_its_manifest_says() -> None:
    verify_manifest(PACK)
    listed = json.loads((PACK / "manifest.json").read_text())["files"]
    shipped = {
        path.relative_to(PACK).as_posix()
        for path in PACK.glob("*/**/*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert shipped == set(listed)


def test_every_shipped_file_is_small_and_none_can_run_code() -> None:
    for path in PACK.rglob("*"):
        if path.is_file():
            assert path.stat().st_size < 10_000_000, path
            assert path.suffix in {".json", ".safetensors", ".md", ""}, path
