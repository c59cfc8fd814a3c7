"""Settings: where values come from, what errors say, what changes the model version."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from eacps.errors import SettingsError
from eacps.settings import Settings, changes_results, group_of, load_settings
from eacps.settings_table import settings_table


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("EACPS_", "LABEL_STUDIO_", "BASIC_AUTH")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def origin_of(variable: str) -> str:
    return {row.variable: row.origin for row in settings_table(load_settings())}[variable]


def test_environment_wins_over_the_file_and_the_table_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("EACPS_STEPS=20\nEACPS_SEED=5\n")
    monkeypatch.setenv("EACPS_STEPS", "30")
    settings = load_settings()
    assert (settings.steps, settings.seed) == (30, 5)
    assert origin_of("EACPS_STEPS") == "environment (EACPS_STEPS)"
    assert origin_of("EACPS_SEED") == ".env (EACPS_SEED)"
    assert origin_of("EACPS_STRATEGY") == "default"


def test_the_search_counts_in_the_steps_that_the_editor_takes() -> None:
    assert Settings(steps=30).plan.steps == 30


def test_a_table_of_a_stronger_source_replaces_a_weaker_one_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text('EACPS_STRATEGY_PARAMS={"k": 9}\nEACPS_WEIGHTS={"pf": 1}\n')
    monkeypatch.setenv("EACPS_STRATEGY_PARAMS", '{"rounds": 2}')
    assert load_settings().strategy_params == {"rounds": 2}
    settings = load_settings(strategy_params={"n": 4})
    assert (settings.strategy_params, settings.weights) == ({"n": 4}, {"pf": 1})


def test_label_studios_own_variable_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://labels:8080/")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "very-secret")
    settings = load_settings()
    assert settings.label_studio_url == "http://labels:8080"
    assert settings.label_studio_api_key.get_secret_value() == "very-secret"


def test_secrets_and_passwords_are_masked_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "very-secret")
    monkeypatch.setenv("EACPS_DATABASE_URL", "postgresql://me:very-secret@db/jobs")
    shown = "\n".join(row.value for row in settings_table(load_settings()))
    assert "very-secret" not in shown
    assert "postgresql://***@db/jobs" in shown


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EACPS_STEPS", "many"),
        ("EACPS_STEPS", "1"),
        ("EACPS_WEIGHTS", "{not json"),
        ("EACPS_EDITOR_DTYPE", "int4"),
        ("LABEL_STUDIO_URL", "labels:8080"),
        ("EACPS_ROUTE_LABELS", '{"x": "nowhere"}'),
    ],
)
def test_a_wrong_value_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert variable.removeprefix("EACPS_").lower() in str(error.value).lower()


def test_an_unknown_setting_with_our_prefix_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EACPS_STRATEGI", "eacps")
    with pytest.raises(SettingsError, match="EACPS_STRATEGY"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'EACPS_SEED=5\n\nEACPS_STEPS="30\n', "Line 3 of .env cannot be read."),
        (b"# settings\nEACPS_STEPS: 30\n", "Line 2 of .env cannot be read."),
        (b"EACPS_STEPS\n", ".env names EACPS_STEPS without a value."),
        (b"EACPS_STEPS=\n", "EACPS_STEPS is empty."),
        (b"# Gr\xf6\xdfe\nEACPS_STEPS=30\n", ".env is not UTF-8 text."),
    ],
)
def test_a_half_written_file_is_refused_instead_of_ignored(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert error.value.message == words
    assert error.value.hint


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("\ufeffEACPS_STEPS=30\n# Größe\n".encode())
    assert load_settings().steps == 30


CHANGES_RESULTS = {
    "strategy": "best_of_n",
    "strategy_params": {"k": 3},
    "steps": 7,
    "seed": 9,
    "guidance": 3.5,
    "potential": "weighted",
    "weights": {"pf": 1.0},
    "editor_batch_size": 2,
    "max_side": 64,
    "lpips_trunk": "alex",
    "editor": "other/editor",
    "clip": "ViT-B-32/openai",
}
CHANGES_NO_RESULT = {
    "label_studio_url": "http://elsewhere",
    "retention_days": 3.0,
    "devices": ("cpu",),
    "data_dir": Path("other"),
    "port": 9,
    "search_concurrency": 2,
    "predict_wait_seconds": 1.0,
    "allowed_hosts": ("a",),
    "log_level": "DEBUG",
}


@pytest.mark.parametrize("field", [*CHANGES_RESULTS, *CHANGES_NO_RESULT])
def test_model_version_changes_exactly_with_what_changes_results(field: str) -> None:
    before = load_settings()
    after = load_settings(**{field: (CHANGES_RESULTS | CHANGES_NO_RESULT)[field]})
    assert getattr(before, field) != getattr(after, field)
    assert changes_results(Settings.model_fields[field]) is (field in CHANGES_RESULTS)
    assert (before.model_version != after.model_version) is (field in CHANGES_RESULTS)


def test_every_setting_is_described() -> None:
    assert all(len(row.help) > 10 for row in settings_table(load_settings()))


def test_every_setting_is_in_a_group() -> None:
    fields = Settings.model_fields
    assert [name for name, knob in fields.items() if not group_of(knob)] == []


def test_a_setting_that_was_declared_without_a_group_is_seen() -> None:
    class Extended(Settings):
        further: int = 1

    assert group_of(Extended.model_fields["further"]) == ""
    assert group_of(Extended.model_fields["steps"]) == "Editor"


def test_the_settings_of_a_group_follow_each_other() -> None:
    # Or the table would show the group's title twice.
    groups = [title for title, _ in groupby(row.group for row in settings_table(load_settings()))]
    assert len(groups) == len(set(groups))
