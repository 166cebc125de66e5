"""Import paths of the user's own code."""

from __future__ import annotations

import pytest

from efface.errors import InputError
from efface.running.imported import imported, path_of

EXAMPLE = "Write this:so."


def test_both_spellings_and_nested_names_are_followed():
    assert imported("collections:OrderedDict.fromkeys", example=EXAMPLE)
    assert imported("os.path.join", example=EXAMPLE) is imported("os.path:join", example=EXAMPLE)


@pytest.mark.parametrize("path", ["", ":", "name", "module:", ":name"])
def test_half_a_path_is_refused(path):
    with pytest.raises(InputError, match=r"not an import path\. Write this:so\."):
        imported(path, example=EXAMPLE)


def test_the_current_folder_counts(tmp_path, monkeypatch):
    (tmp_path / "found_here.py").write_text("thing = 1\n")
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    monkeypatch.chdir(tmp_path)
    assert imported("found_here:thing", example=EXAMPLE) == 1


def test_a_module_that_misses_another_one_says_so(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        imported("lacking:thing", example=EXAMPLE)


def test_paths_lead_back_and_local_things_have_none():
    assert imported(path_of(InputError), example=EXAMPLE) is InputError
    assert path_of(lambda: 0) is None
