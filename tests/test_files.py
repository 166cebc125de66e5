"""Folders and files appear whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from efface import files
from efface.drafts import MARK, PART, left_over
from efface.errors import InputError, nearest
from efface.files import (
    LOCK,
    check_fillable,
    check_vacant,
    checked,
    held,
    new_folder,
    read,
    read_mapping,
    remove_drafts,
    write_file,
)
from efface.training.recipe import Recipe


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def fill(target: Path, content: str, error: BaseException | None = None) -> None:
    """Write one file into a new folder, replacing an old one, and fail before the end if told to."""
    with new_folder(target, overwrite=True) as draft:
        (draft / "file").write_text(content)
        if error is not None:
            raise error


def test_appears_with_its_content_and_readable(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "made"
    with new_folder(target) as draft:
        assert not target.exists()
        (draft / "sub").mkdir()
        (draft / "sub" / "file").write_text("content")
        (draft / "sub" / "file").chmod(0o600)
    assert (target / "sub" / "file").read_text() == "content"
    assert stat.S_IMODE((target / "sub" / "file").stat().st_mode) & 0o400
    assert names(target.parent) == ["made"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_failure_half_way_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fill(tmp_path / "made", "half", error)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failure_half_way_keeps_the_old_folder(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "made"
    fill(target, "old")
    with pytest.raises(type(error)):
        fill(target, "new", error)
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_failure_of_the_last_rename_puts_the_old_folder_back(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "made"
    fill(target, "old")
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if self.suffix == PART:
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(type(error)):
        fill(target, "new")
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["made"]


def test_overwrites_only_when_asked_and_wholly(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_folder(target) as draft:
        (draft / "old").write_text("")
    with pytest.raises(InputError, match="overwrit"), new_folder(target):
        pytest.fail("the block must not run")
    with new_folder(target, overwrite=True) as draft:
        (draft / "new").write_text("")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["made"]


def test_what_is_foreign_is_not_overwritten(tmp_path: Path) -> None:
    def foreign(folder: Path) -> list[str]:
        return [p.name for p in folder.iterdir() if p.name != "file"]

    fill(tmp_path / "made", "old")
    check_vacant(tmp_path / "made", True, foreign)
    check_vacant(tmp_path / "nothing", True, foreign)
    for nobodys in (".lock", ".DS_Store", ".file.abcd1234.efface-part"):
        (tmp_path / "made" / nobodys).touch()
    check_vacant(tmp_path / "made", True, foreign)
    for theirs in ("b.txt", "a.txt", "c.txt", "d.txt"):
        (tmp_path / "made" / theirs).touch()
    with pytest.raises(InputError, match=r"did not write there: a.txt, b.txt, c.txt and 1 more"):
        check_vacant(tmp_path / "made", True, foreign)
    with pytest.raises(InputError, match="Move these away"), new_folder(tmp_path / "made", True, foreign):
        pytest.fail("the block must not run")
    (tmp_path / "link").symlink_to("made")
    with pytest.raises(InputError, match="Move these away"):
        check_vacant(tmp_path / "link", True, foreign)
    assert (tmp_path / "made" / "file").read_text() == "old"


def test_vacant_means_free_or_an_empty_folder(tmp_path: Path) -> None:
    assert check_vacant(tmp_path / "a" / "b", overwrite=False) == tmp_path / "a" / "b"
    assert names(tmp_path) == []
    (tmp_path / "empty").mkdir()
    check_vacant(tmp_path / "empty", overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_vacant(tmp_path / "file", overwrite=True)
    with pytest.raises(InputError, match="cannot make"):
        check_vacant(tmp_path / "file" / "below", overwrite=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("x/..", "does not end in the name"),
        (".", "does not end in the name"),
        ("gone/../made", "leads through a folder that does not exist"),
        ("dangling", "a link to nowhere, which does not exist"),
        ("dangling/below", "a link to nowhere, which does not exist"),
        ("n" * 245, "too long by 12 bytes"),
        ("e" * 245 + "/made", None),
        ("f" * 260 + "/made", "too long by 5 bytes"),
        ("/".join(["deep"] * 1000), "too long by"),
    ],
)
def test_paths_that_will_not_do_are_found_before_any_work(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    if said is None:
        check_vacant(given, overwrite=True)
    else:
        with pytest.raises(InputError, match=said):
            check_vacant(given, overwrite=True)
    assert names(tmp_path) == ["dangling"]


def test_folders_that_are_filled_in_place_are_checked_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for right in (".", "made", "a/b"):
        check_fillable(right)
    for wrong in ("x/..", "dangling", "file", "file/below", "n" * 300):
        with pytest.raises(InputError):
            check_fillable(wrong)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="cannot be written to; give another folder"):
        check_fillable("made")
    assert names(tmp_path) == ["dangling", "file"]


def test_where_a_file_system_begins_nothing_can_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(InputError, match="give a folder in it"):
        check_vacant(tmp_path, overwrite=True)
    check_vacant(tmp_path / "in", overwrite=True)


def test_write_file_replaces_or_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "note.txt"
    write_file(file, "old")
    write_file(file, b"newer")
    assert file.read_bytes() == b"newer"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(file, "newest")
    assert file.read_bytes() == b"newer"
    assert names(tmp_path) == ["note.txt"]


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
        ("lr: -1", r"recipe\.yaml: lr must be greater than or equal to 0 .*given: -1"),
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


def test_a_folder_is_held_by_one_process_and_the_other_says_whom_it_waits_for(tmp_path):
    script = (
        "import sys, time; from efface.files import held\n"
        "with held(sys.argv[1], print): open(sys.argv[1] + '/in', 'w').close(); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    end = time.monotonic() + 30
    while not (tmp_path / "in").exists() and time.monotonic() < end:
        time.sleep(0.02)
    said = []

    def say(text):
        said.append(text)
        other.kill()  # what is dead holds nothing

    with held(tmp_path, say):
        pass
    other.wait()
    assert f"waiting for process {other.pid} on " in said[0]
    with held(tmp_path, pytest.fail):
        pass


def test_drafts_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in (".model.abc12345.efface-part", "kept.part", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / ".reference-001.abc12345.efface-part" / "inner").mkdir(parents=True)
    (tmp_path / "reference-000").mkdir()
    (tmp_path / "reference-000" / MARK).touch()  # killed just after it had taken its place
    remove_drafts(tmp_path)
    assert names(tmp_path) == [".hidden", "kept.part", "reference-000"]
    assert names(tmp_path / "reference-000") == [MARK]
    remove_drafts(tmp_path, below=True)
    assert names(tmp_path / "reference-000") == []


def test_what_people_name_like_a_draft_is_theirs(tmp_path: Path) -> None:
    theirs = [".bashrc.20240101.old", ".draft", ".model.download.part", ".model.original.old"]
    for name in theirs[:2]:
        (tmp_path / name).touch()
    for name in theirs[2:]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    remove_drafts(tmp_path, below=True)
    for name in ("model", ".bashrc"):
        check_vacant(tmp_path / name, overwrite=False)
    assert names(tmp_path) == theirs
    assert all(names(tmp_path / name) == ["file"] for name in theirs[2:])


def test_a_folder_that_another_process_removes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)

    def meanwhile(place: Path) -> list[Path]:
        found = left_over(place)
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        return found

    monkeypatch.setattr(files, "left_over", meanwhile)
    remove_drafts(tmp_path, below=True)
    assert left_over(tmp_path / "a") == []


def test_a_lock_that_a_dead_process_left_is_no_hindrance(tmp_path: Path) -> None:
    target = tmp_path / "made"
    target.mkdir()
    (target / LOCK).write_text("process 1 on nowhere")
    with new_folder(target) as draft:
        (draft / "file").touch()
    assert names(target) == ["file"]


def test_a_folder_that_a_living_process_has_just_begun_is_refused(tmp_path: Path) -> None:
    with held(tmp_path / "made", pytest.fail):
        with pytest.raises(InputError, match=f"process {os.getpid()} on .* works in"):
            check_vacant(tmp_path / "made", overwrite=False)
        assert names(tmp_path / "made") == [LOCK]
