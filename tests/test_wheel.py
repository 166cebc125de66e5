"""Wheel and sdist: what is in them, what they depend on, and that the package works where only they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "efface"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("build") is None, reason="the package build is not installed"),
]

TINY = """
import efface

data = efface.load_data("digits")
original = efface.train("mlp", data, recipe=efface.Recipe(lr=0.1, epochs=1, batch_size=64), device="cpu")
forgotten = efface.forget(original, data, efface.Request(classes=[3]), method="logit-mask", device="cpu")
forgotten.save("forgotten")
print(efface.__file__)
"""


def done(command: list[str | Path], folder: Path, limit: float | None = None) -> str:
    """Run a command as in a fresh shell, in a folder outside of this repository; return what it prints.

    Args:
        command: What to run.
        folder: Where.
        limit: Seconds that it may take.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EFFACE", "PYTEST"))}
    answer = subprocess.run(
        [str(c) for c in command],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=limit,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both; the wheel is built from the sdist, so that the sdist is whole."""
    out = tmp_path_factory.mktemp("dist")
    done([sys.executable, "-m", "build", "--outdir", out, ROOT], out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and, to save downloads, a path to the packages that are installed here."""
    home = tmp_path_factory.mktemp("clean")
    done([sys.executable, "-m", "venv", home], home)
    (packages,) = home.glob("lib/python*/site-packages")
    here = [p for p in sys.path if p.endswith("site-packages")]
    (packages / "packages_of_the_tests.pth").write_text("\n".join(here) + "\n")  # lines there are not looked into
    done([home / "bin" / "python", "-m", "pip", "-q", "install", "--no-deps", "--no-index", wheel], home)
    return home


def test_the_wheel_holds_the_package_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if not n.partition("/")[0].endswith(".dist-info")}
    there = {p for p in SOURCE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert names == {f"efface/{p.relative_to(SOURCE).as_posix()}" for p in there}
    assert not any(Path(n).name.startswith(("test_", "conftest")) for n in names)


def test_the_sdist_holds_what_tests_and_documents_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "tests", "docs", "examples", "experiments", "benchmarks", "mkdocs.yml", "README.md"} <= top
    assert not top & {".venv", "demo", "site", "runs"}


def test_it_depends_on_what_the_project_file_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        needs = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {n for n in needs if "extra ==" not in n} == set(said["dependencies"])
    extras = {re.search(r"extra == ['\"](\w+)['\"]", n)[1] for n in needs if "extra ==" in n}  # type: ignore[index]
    assert extras == set(said["optional-dependencies"])


def other_pythons() -> dict[int, Path]:
    """By minor version, the other Pythons that Efface supports and this machine has, also where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in MINORS:
        named = shutil.which(f"python3.{minor}")
        for path in [*([named] if named else []), *kept.glob(f"3.{minor}.*/bin/python")]:
            # pyenv's shims stand on the path for versions that are not chosen, and refuse
            if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
                found.setdefault(minor, Path(path))
    return found


MINORS = [minor for minor in (11, 12, 13) if minor != sys.version_info.minor]
OTHERS = other_pythons()

LIGHT = ("typer", "rich", "pydantic", "pyyaml")
"""What the command line imports before a subcommand runs. Torch for another Python may come with gigabytes of CUDA."""

ROOM = 16 * 2**30
"""Bytes that must be free for an environment with torch, CUDA and all else, which takes a third of them."""

PATIENCE = 420.0
"""Seconds in which all that is needed must have come for a Python that was not asked for by name."""

NOT_SERVED = ("No matching distribution found", "Could not connect", "Failed to establish a new connection")


def fetched(command: list[str | Path], folder: Path) -> None:
    """Install; where packages for that Python cannot be had, or not in time, the test is skipped with the reason."""
    try:
        done(command, folder, PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.skip(
            f"packages for this Python take more than {PATIENCE:.0f} s to come; name it in EFFACE_PYTHONS to wait"
        )
    except AssertionError as error:
        if any(words in str(error) for words in NOT_SERVED):
            pytest.skip(f"packages for this Python cannot be had here: {str(error).strip().splitlines()[-1]}")
        raise


@pytest.mark.parametrize("minor", MINORS)
def test_it_compiles_and_answers_on_another_python(minor: int, wheel: Path, tmp_path: Path) -> None:
    """Every module is compiled, and the command line says what it can do, with what it needs for that alone."""
    if minor not in OTHERS:
        pytest.skip(f"no Python 3.{minor} on this machine")
    done([OTHERS[minor], "-m", "venv", tmp_path / "other"], tmp_path)
    here = tmp_path / "other" / "bin"
    install = [here / "python", "-m", "pip", "-q", "install"]
    fetched([*install, "-c", ROOT / "constraints.txt", *LIGHT], tmp_path)
    done([*install, "--no-deps", "--no-index", wheel], tmp_path)
    where = Path(done([here / "python", "-c", "import efface; print(efface.__file__)"], tmp_path).strip())
    assert where.is_relative_to(tmp_path / "other")
    done([here / "python", "-W", "error", "-m", "compileall", "-q", "-f", where.parent], tmp_path)
    assert "Make trained PyTorch classifiers forget" in done([here / "efface", "--help"], tmp_path)


def test_it_forgets_on_another_python(wheel: Path, tmp_path: Path) -> None:
    """With all it depends on, on the first other Python; on each that is named, e.g. EFFACE_PYTHONS=3.12,3.13."""
    asked = [int(name.removeprefix("3.")) for name in os.environ.get("EFFACE_PYTHONS", "").split(",") if name]
    chosen = asked or list(OTHERS)[:1]
    if not chosen:
        pytest.skip("no other supported Python on this machine")
    if shutil.disk_usage(tmp_path).free < ROOM:
        pytest.skip(f"torch for another Python needs up to {ROOM / 2**30:.0f} GiB of disk, which are not free here")
    for minor in chosen:
        assert minor in OTHERS, f"no Python 3.{minor} on this machine"
        home, folder = tmp_path / f"3.{minor}", tmp_path / f"of 3.{minor}"
        folder.mkdir()
        done([OTHERS[minor], "-m", "venv", home], folder)
        install = [home / "bin" / "python", "-m", "pip", "-q", "install", "--no-compile", "--no-cache-dir"]
        (done if asked else fetched)([*install, "-c", ROOT / "constraints.txt", wheel], folder)
        where = done([home / "bin" / "python", "-c", TINY], folder).strip().splitlines()[-1]
        assert Path(where).is_relative_to(home)
        assert "nothing failed" in done([home / "bin" / "efface", "verify", "forgotten"], folder)
        shutil.rmtree(home)


def test_it_forgets_where_nothing_else_of_us_is(clean: Path, tmp_path: Path) -> None:
    where = done([clean / "bin" / "python", "-c", TINY], tmp_path).strip().splitlines()[-1]
    assert Path(where).is_relative_to(clean)
    assert "Make trained PyTorch classifiers forget" in done([clean / "bin" / "efface", "--help"], tmp_path)
    assert "nothing failed" in done([clean / "bin" / "efface", "verify", "forgotten"], tmp_path)


def test_pytest_finds_the_plugin(clean: Path, tmp_path: Path) -> None:
    example = (ROOT / "examples" / "a_method_of_my_own.py").read_text(encoding="utf-8")
    (tmp_path / "a_method_of_my_own.py").write_text(example)
    command = [clean / "bin" / "python", "-m", "pytest", "-q", "--efface-methods", "a_method_of_my_own"]
    assert "2 passed" in done([*command, "-k", "documented or survive"], tmp_path)
