"""Reading YAML into checked models."""

from __future__ import annotations

from pathlib import Path

import pytest

from efface.errors import InputError, nearest
from efface.files import checked, read, read_mapping
from efface.training.recipe import Recipe


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return file


def test_reads_yaml_and_json(tmp_path: Path) -> None:
    expected = Recipe(lr=0.1, epochs=3, milestones=(1, 2), schedule="step", augment={"crop": 2, "flip": True})
    text = "lr: 0.1\nepochs: 3\nschedule: step\nmilestones: [1, 2]\naugment: {crop: 2, flip: true}\n"
    assert read(written(tmp_path, text), Recipe) == expected
    assert read(written(tmp_path, expected.model_dump_json()), Recipe) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epcohs: 3", "has no 'epcohs'. Did you mean 'epochs'"),
        ("lr: -1", r"recipe\.yaml: lr: .*greater than or equal to 0 .*given: -1"),
        ("batch_size: many", "batch_size"),
        ("lr: .nan", "lr"),
        ("optimiser: sdg", "optimiser"),
        ("- 1\n- 2", "holds list; needed: a mapping"),
        ("1: 2", "needed: a mapping"),
        ("lr: [", "is not YAML"),
        ("!!python/object/apply:os.system ['false']", "is not YAML"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(written(tmp_path, text), Recipe)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file at"):
        read_mapping(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not YAML"):
        read_mapping(tmp_path / "b.yaml")


def test_checked_names_where_it_was_given() -> None:
    with pytest.raises(InputError, match=r"^plan\.yaml, recipe: Recipe has no 'rate'"):
        checked(Recipe, {"rate": 1}, "plan.yaml, recipe")


def test_nearest_lists_all_and_guesses_only_when_close() -> None:
    assert nearest("momentun", ["lr", "momentum"]) == "Did you mean 'momentum'? Allowed: lr, momentum."
    assert nearest("xyz", ["lr", "momentum"]) == "Allowed: lr, momentum."
