from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from finetune_assets.errors import BaseModelError
from finetune_assets.server import base_models
from finetune_assets_tests.tiny_models import write_text_model


def test_default_aliases_lead_to_the_bundled_models(tmp_path: Path) -> None:
    base_models.ensure_config(tmp_path)
    assert base_models.resolve("gpt-4o-2024-08-06", tmp_path).name == "smollm2-135m-vision"
    assert base_models.resolve("gpt-4o-mini-2024-07-18", tmp_path).name == "smollm2-135m-instruct"
    assert base_models.resolve("gpt-4o-2024-08-06", tmp_path).vision
    assert not base_models.resolve("gpt-4o-mini-2024-07-18", tmp_path).vision


def test_a_users_models_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("mine: smollm2-135m-instruct\n")
    base_models.ensure_config(tmp_path)
    assert base_models.names(tmp_path) == ["smollm2-135m-instruct", "smollm2-135m-vision", "mine"]


def test_aliases_of_aliases_are_followed(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("a: b\nb: smollm2-135m-vision\n")
    assert base_models.resolve("a", tmp_path) == base_models.resolve("smollm2-135m-vision", tmp_path)


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="'gpt-9' does not exist; this server has smollm2-135m-instruct"):
        base_models.resolve("gpt-9", tmp_path)


def test_a_client_cannot_name_a_path(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="does not exist"):
        base_models.resolve(str(tmp_path), tmp_path)


def test_an_alias_that_leads_back_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("a: b\nb: a\n")
    with pytest.raises(BaseModelError, match="leads back to itself"):
        base_models.resolve("a", tmp_path)


@pytest.mark.parametrize("written", ["- a list", "name: [1]", "5: model"])
def test_a_malformed_models_file_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "models.yaml").write_text(written)
    with pytest.raises(BaseModelError, match="models.yaml"):
        base_models.names(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"mine: {tmp_path}\n")
    with pytest.raises(BaseModelError, match="no config.json"):
        base_models.resolve("mine", tmp_path)


def test_the_bundled_text_model_is_installed_once_and_complete() -> None:
    base_models.install()
    made = base_models.SHARE / base_models.TEXT_MODEL
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in made.iterdir()}
    assert not list(base_models.SHARE.glob(".making-*"))


def test_a_shutdown_date_is_that_of_the_name_or_of_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "old: {model: smollm2-135m-instruct, shutdown_date: 2027-01-14}\nalias: old\nkept: smollm2-135m-instruct\n"
    )
    assert base_models.resolve("alias", tmp_path).name == "smollm2-135m-instruct"
    found = [base_models.shutdown_date(name, tmp_path) for name in ("old", "alias", "kept", "smollm2-135m-instruct")]
    assert found == [date(2027, 1, 14), date(2027, 1, 14), None, None]


@pytest.mark.parametrize("announced", ["soon", "20270114x", "2027-01-14 10:00:00", "7"])
def test_a_shutdown_date_that_is_no_day_is_an_error(tmp_path: Path, announced: str) -> None:
    (tmp_path / "models.yaml").write_text(f"old: {{model: smollm2-135m-instruct, shutdown_date: {announced}}}\n")
    with pytest.raises(BaseModelError, match="shutdown_date of 'old' must be a day"):
        base_models.names(tmp_path)


def test_a_revision_is_pinned_and_a_folder_of_other_models_needs_no_bundled_one(tmp_path: Path) -> None:
    assert base_models.wanted(tmp_path)
    model = write_text_model(tmp_path / "model")
    (tmp_path / "models.yaml").write_text(f"mine: {{model: {model}, revision: 3f1c0de}}\n")
    assert base_models.resolve("mine", tmp_path).revision == "3f1c0de"
    assert not base_models.wanted(tmp_path)
    (tmp_path / "models.yaml").write_text(f"mine: {{model: {model}, revision: 3}}\n")
    with pytest.raises(BaseModelError, match="the revision of 'mine' must be a commit, tag or branch, not 3"):
        base_models.resolve("mine", tmp_path)


def test_a_name_is_in_4_bit_where_models_yaml_says_so_and_is_then_a_model_of_its_own(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model")
    (tmp_path / "models.yaml").write_text(
        f"full: {model}\nsmall: {{model: full, load_in_4bit: true}}\nalias: small\n"
        "again: {model: small, load_in_4bit: false}\n"
    )
    found = {name: base_models.resolve(name, tmp_path) for name in ("full", "small", "alias", "again")}
    assert {name: base.four_bit for name, base in found.items()} == {
        "full": False, "small": True, "alias": True, "again": False,
    }  # fmt: skip
    assert {name: base.name for name, base in found.items()} == {
        "full": "full", "small": "small", "alias": "small", "again": "again",
    }  # fmt: skip
    assert found["full"].weights == found["again"].weights != found["small"].weights
    assert [base_models.in_four_bit(name, tmp_path) for name in ("alias", "again", "gone")] == [True, False, False]


def test_what_cannot_be_in_4_bit_is_refused_where_models_yaml_says_so(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("mine: {model: smollm2-135m-instruct, load_in_4bit: true}\n")
    with pytest.raises(
        BaseModelError, match="'mine' stands for smollm2-135m-instruct, which is small and not loaded in 4"
    ):
        base_models.resolve("mine", tmp_path)
    (tmp_path / "models.yaml").write_text("mine: {model: smollm2-135m-instruct, load_in_4bit: nf4}\n")
    with pytest.raises(BaseModelError, match="the load_in_4bit of 'mine' must be true or false, not 'nf4'"):
        base_models.names(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{nope", "config.json: no JSON"),
        ("config.json", "[]", "config.json: expected an object, found list"),
        ("adapter_config.json", "{}", "a PEFT adapter lies there; merge it into its base model"),
    ],
)
def test_a_folder_whose_files_say_nothing_of_use_is_refused_and_does_not_hide_the_others(
    tmp_path: Path, file: str, content: str, told: str
) -> None:
    folder = write_text_model(tmp_path / "model")
    (folder / file).write_text(content)
    (tmp_path / "models.yaml").write_text(f"mine: {folder}\n")
    with pytest.raises(BaseModelError, match=told):
        base_models.resolve("mine", tmp_path)
    assert not base_models.in_four_bit("mine", tmp_path)
