"""Folders of save_pretrained, as far as they can be judged without importing transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from efface.errors import InputError
from efface.models.hugging_face import described, from_config, is_folder, stored_as, write_folder
from efface.models.spec import ModelSpec


def folder(path: Path, **config: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_folder_says_how_it_is_built(tmp_path: Path) -> None:
    made = folder(tmp_path / "vit", architectures=["ViTForImageClassification"], model_type="vit", image_size=32)
    spec = ModelSpec.of_folder(made)
    assert spec.build == "transformers.AutoModelForImageClassification"
    assert spec.weights == made
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    text = folder(tmp_path / "bert", architectures=["BertForSequenceClassification"], model_type="bert")
    assert described(text)[0] == "transformers.AutoModelForSequenceClassification"
    (made / "record.json").write_text("{}")
    assert not is_folder(made)


def test_other_models_and_damaged_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="GPT2LMHeadModel; allowed: a classifier"):
        described(folder(tmp_path / "a", architectures=["GPT2LMHeadModel"]))
    with pytest.raises(InputError, match="no architecture"):
        described(folder(tmp_path / "b"))
    (tmp_path / "a" / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="is not JSON"):
        described(tmp_path / "a")
    with pytest.raises(InputError, match="holds no config"):
        ModelSpec.of_folder(tmp_path)


def test_code_that_comes_with_a_configuration_is_not_run() -> None:
    build = from_config("transformers.AutoModelForImageClassification")
    with pytest.raises(InputError, match="auto_map"):
        build({"model_type": "vit", "auto_map": {"AutoModel": "evil.Model"}})


def test_a_download_with_more_in_it_than_is_written_is_not_replaced(tmp_path: Path) -> None:
    download = folder(tmp_path / "vit", model_type="vit")
    (download / "README.md").write_text("theirs")
    with pytest.raises(InputError, match=r"did not write there: README\.md"):
        write_folder(nn.Linear(1, 1), nn.Linear(1, 1).state_dict(), download, None, overwrite=True)
    assert (download / "README.md").read_text() == "theirs"


def test_the_type_of_the_weights_is_what_the_configuration_says(tmp_path: Path) -> None:
    for name, config, said in (
        ("a", {"dtype": "bfloat16"}, "bfloat16"),
        ("b", {"torch_dtype": "float16"}, "float16"),
        ("c", {}, ""),
    ):
        assert stored_as(folder(tmp_path / name, **config)) == said
