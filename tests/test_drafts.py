"""A folder is replaced in one step, and what killed processes leave is put right by whoever comes next."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from efface import drafts
from efface.drafts import exchanged, left_over, recover
from efface.errors import InputError
from efface.files import check_vacant, new_folder

KILLED_WHILE_REPLACING = """
import os, sys
from pathlib import Path
from efface import drafts
from efface.files import new_folder

where, step = sys.argv[1:]
if step != "exchange":
    drafts.exchanged = lambda one, other: False

def counted(call, name):
    def killed(*given, **more):
        answer = call(*given, **more)
        if name == step:
            os.kill(os.getpid(), 9)
        return answer
    return killed

real = Path.rename
def rename(self, to):
    if str(to).endswith(".efface-old"):
        return counted(real, "aside")(self, to)
    if self.suffix == ".efface-part" and not Path(to).exists():
        return counted(real, "into place")(self, to)
    return real(self, to)

Path.rename = rename
drafts.exchanged = counted(drafts.exchanged, "exchange")
drafts.removed = counted(drafts.removed, "removal")
with new_folder(where, overwrite=True) as draft:
    (draft / "file").write_text("new")
    if step == "filling":
        os.kill(os.getpid(), 9)
"""


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def made(path: Path, content: str) -> Path:
    with new_folder(path, overwrite=True) as draft:
        (draft / "file").write_text(content)
    return path


@pytest.mark.parametrize(
    ("step", "there", "content"),
    [
        ("filling", True, "old"),
        ("aside", False, "old"),
        ("into place", True, "new"),
        pytest.param("exchange", True, "new", marks=pytest.mark.skipif(sys.platform != "linux", reason="renameat2")),
        ("removal", True, "new"),
    ],
)
def test_a_process_killed_while_it_replaces_a_folder_leaves_the_old_or_the_new_one(tmp_path, step, there, content):
    path = made(tmp_path / "model", "old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_REPLACING, str(path), step], check=False)
    assert killed.returncode == -9
    assert path.exists() == there
    if step != "removal":
        assert left_over(tmp_path, "model")
    check_vacant(path, overwrite=True)  # the next start
    assert (path / "file").read_text() == content
    assert names(tmp_path) == ["model"]
    assert names(path) == ["file"]


def test_folders_are_exchanged_in_one_step(tmp_path):
    one, other = made(tmp_path / "one", "1"), made(tmp_path / "other", "2")
    if not exchanged(one, other):
        pytest.skip("this system or file system cannot exchange folders")
    assert [(p / "file").read_text() for p in (one, other)] == ["2", "1"]
    with pytest.raises(FileNotFoundError):
        exchanged(one, tmp_path / "none")


def test_where_folders_cannot_be_exchanged_two_steps_do(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "exchanged", lambda one, other: False)
    path = made(made(tmp_path / "model", "old"), "new")
    assert (path / "file").read_text() == "new"
    assert names(tmp_path) == ["model"]
    assert names(path) == ["file"]


def test_what_a_living_process_makes_is_left_alone_and_no_copy_that_lies_around(tmp_path):
    with new_folder(tmp_path / "model") as draft:
        (draft / "file").write_text("half")
        script = "import sys; from efface.drafts import *; p, n = sys.argv[1:]\nfrom pathlib import Path\n"
        script += "recover(Path(p) / n); print(left_over(Path(p)))"
        other = subprocess.run([sys.executable, "-c", script, tmp_path, "model"], capture_output=True, text=True)
        assert other.stdout == "[]\n", other.stderr
        assert (draft / "file").read_text() == "half"
    assert names(tmp_path) == ["model"]


def test_whoever_comes_second_is_told_and_changes_nothing(tmp_path):
    def second() -> None:
        with new_folder(tmp_path / "model") as draft:
            (draft / "file").write_text("second")
            made(tmp_path / "model", "first")

    with pytest.raises(InputError, match="another process made"):
        second()
    assert (tmp_path / "model" / "file").read_text() == "first"
    assert names(tmp_path) == ["model"]


def test_only_drafts_of_that_name_are_recovered(tmp_path):
    for name in (
        ".model.abcd1234.efface-part",
        ".model.x.abcd1234.efface-part",
        ".other.abcd1234.efface-part",
        ".model.trials",
        "model.part",
    ):
        (tmp_path / name).mkdir()
    recover(tmp_path / "model")
    assert names(tmp_path) == [
        ".model.trials",
        ".model.x.abcd1234.efface-part",
        ".other.abcd1234.efface-part",
        "model.part",
    ]
    assert [p.name for p in left_over(tmp_path)] == [".model.x.abcd1234.efface-part", ".other.abcd1234.efface-part"]


def test_an_old_copy_that_cannot_be_removed_is_said(tmp_path, monkeypatch):
    path = made(tmp_path / "model", "old")

    def busy(_: object) -> None:
        raise PermissionError(13, "Permission denied", "file")

    monkeypatch.setattr(drafts.shutil, "rmtree", busy)
    with pytest.raises(PermissionError):
        made(path, "new")
    assert (path / "file").read_text() == "new"


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTEMPTY])
def test_two_processes_may_remove_the_same_draft(tmp_path, monkeypatch, code):
    draft, removing, met = tmp_path / ".model.abcd1234.efface-part", drafts.shutil.rmtree, []
    draft.mkdir()

    def another(folder: Path) -> None:
        if not met:
            met.append(folder)
            raise OSError(code, "by another process", str(folder))
        removing(folder)

    monkeypatch.setattr(drafts.shutil, "rmtree", another)
    drafts.removed(draft)
    assert names(tmp_path) == []


def test_a_link_to_a_folder_stays_and_nothing_lies_around_where_it_points(tmp_path):
    model = made(tmp_path / "models" / "first", "old")
    link = tmp_path / "current"
    link.symlink_to(model)
    made(link, "new")
    assert link.is_symlink()
    assert (model / "file").read_text() == "new"
    assert names(tmp_path / "models") == ["first"]


def test_the_mark_of_a_draft_is_gone_once_it_is_in_place(tmp_path):
    path = made(tmp_path / "model", "new")
    (path / drafts.MARK).touch()  # killed between the last two steps
    recover(path)
    assert names(path) == ["file"]
    assert names(tmp_path) == ["model"]
