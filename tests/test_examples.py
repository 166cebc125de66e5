"""Every script of examples/ runs as it stands and shows what it is there to show; the notebook runs, too.

`make examples` runs this file whole; `make test` leaves out what is marked as slow.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "delete_a_person.ipynb"


def shares(line: str) -> list[float]:
    return [float(number) / 100 for number in re.findall(r"([\d.]+)%", line)]


def line_of(text: str, start: str) -> str:
    (found,) = (line for line in text.splitlines() if line.startswith(start))
    return found


def answer(text: str) -> str:
    return line_of(text, "Did it forget?").removeprefix("Did it forget? ")


def person(said: str) -> None:
    assert "65 records asked for: 59 to forget, 6 never trained on (held out); 20 of them canaries" in said
    assert "auto: took " in said
    assert answer(said) == "no difference found"


def batch(said: str) -> None:
    """The trigger works in the original and not in the retrained model; fine-tuning leaves it."""
    obeys = {name: shares(line_of(said, name))[0] for name in ("original", "fine-tune", "retrain")}
    assert obeys["original"] > 0.8
    assert obeys["fine-tune"] > 0.5
    assert obeys["retrain"] < 0.05
    assert answer(said) == "no"


def timm_class(said: str) -> None:
    assert shares(line_of(said, "accuracy of timm's model on class 3"))[0] < 0.05
    assert shares(line_of(said, "accuracy of timm's model on the others"))[0] > 0.9
    # A recipe that is not how the model was trained would leave nothing to compare with.
    assert "did it forget? could not tell" not in said


def customer(said: str) -> None:
    assert re.search(r"- sisa: [1-4] of 5 shards trained again", said)
    seconds = [float(s) for s in re.findall(r"(?:trained|forgotten) in ([\d.]+) s", said)]
    assert seconds[1] < seconds[0]
    assert answer(said) != "no"


def texts(said: str) -> None:
    """The texts with a wrong label were learnt by heart, and the audit finds all of them again after fine-tuning."""
    found = said.split("fine-tune: ")[1].split("undo: ")[0]
    assert found.startswith("did it forget? no\n")
    assert all(f"review-{n:04}" in found for n in range(5))


def own(said: str) -> None:
    """The example hides the class and nothing else: a probe finds it as it does behind a masked logit."""
    rows = {name: shares(line_of(said, name)) for name in ("scaled-back", "logit-mask", "project-distil")}
    assert all(row[0] < 0.05 < row[1] for row in rows.values())
    assert rows["scaled-back"][2] == rows["logit-mask"][2] > rows["project-distil"][2]
    assert "scaled-back" in line_of(said, "scaled-back")
    assert line_of(said, "scaled-back").endswith(" no")


SHOWN: dict[str, Callable[[str], None]] = {
    "a_method_of_my_own": own,
    "delete_a_customer": customer,
    "delete_a_person": person,
    "delete_texts": texts,
    "remove_a_class_from_timm": timm_class,
    "remove_a_poisoned_batch": batch,
}
QUICK = {"delete_a_customer", "delete_texts", "remove_a_poisoned_batch"}
"""The others, and the notebook, take twenty seconds or more of a processor's time."""


def test_every_example_is_run_here_and_listed_for_readers() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(SHOWN)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({p.name})" in listed for p in EXAMPLES.glob("*.*") if p.suffix in {".py", ".ipynb"})


@pytest.mark.seconds
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(SHOWN)])
def test_it_runs_and_shows_what_it_is_there_to_show(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "remove_a_class_from_timm" and find_spec("timm") is None:  # importing it is the example's own business
        pytest.skip("timm is not installed")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    SHOWN[name](capsys.readouterr().out)
    reports = list(tmp_path.rglob("report.html"))
    assert len(reports) == (name != "a_method_of_my_own")


def test_the_notebook_is_the_script() -> None:
    pytest.importorskip("nbformat")
    run = subprocess.run([sys.executable, ROOT / "docs" / "notebook.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    made = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(
        made, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [o for cell in made.cells if cell.cell_type == "code" for o in cell.outputs]
    person("".join(o.text for o in outputs if o.get("name") == "stdout"))
    assert len(list(tmp_path.rglob("report.html"))) == 1
