"""Killed, raced and starved runs of every verb: nothing is lost or left behind, a re-run gives the undisturbed bits.

`make test-faults` runs these and writes what was tried into docs/reliability.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from efface.artifact.artifact import RECORD, Artifact
from efface.methods.applying import rebuilt
from efface.references import load_references
from tests.faults import Forge, Running, copies, drafts, kill_one, parents, waited

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc"),
]

SMALL = (
    "--data", "digits", "--model", "mlp", "--model-set", "hidden=[16]", "--recipe-set", "epochs=2",
    "--recipe-set", "lr=0.1", "--recipe-set", "batch_size=32", "-q",
)  # fmt: skip

PLAN = {
    "name": "killed",
    "data": {"source": "digits"},
    "model": {"build": "mlp", "arguments": {"hidden": [16]}},
    "recipe": {"lr": 0.1, "epochs": 4, "batch_size": 32},
    "requests": [{"classes": [0]}, {"classes": [3]}],
    "seeds": [0, 1],
    "measures": ["accuracy", "probe"],
    "methods": [{"method": "original"}, {"method": "logit-mask"}, {"method": "fine-tune", "settings": {"epochs": 1}}],
}
TIMED = re.compile("second|created|time|machine|spent|versions|peak|memory_gib|history|cost")
"""Names of what differs between two runs of the same."""

TRIED: Counter[tuple[str, str, str]] = Counter()
"""How often, by kind of fault, verb and outcome."""


def bare(value: Any) -> Any:
    """Return JSON content without what differs between two runs of the same."""
    if isinstance(value, dict):
        return {k: bare(v) for k, v in value.items() if not TIMED.search(k)}
    if isinstance(value, list):
        return [bare(v) for v in value if not (isinstance(v, dict) and TIMED.search(str(v.get("key", ""))))]
    return value


# --- what every verb makes, and how to tell that it is whole --------------------------------------------------------


def artifact(folder: Path) -> Any:
    """Return the bits of a model and what its record says; loading checks its hashes."""
    found = Artifact.load(folder, rebuild=rebuilt)
    return found.record.weights_after, found.record.memory_after, bare(json.loads(found.record.model_dump_json()))


def references(folder: Path) -> Any:
    """Return the bits of the finished references; all of them are loaded."""
    manifest = load_references(folder)
    for path in folder.glob("reference-*"):
        assert (path / RECORD).is_file()
    return [a.record.weights_after for a in manifest]


def pages(*names: str) -> Callable[[Path], Any]:
    """Return a check that every page is whole, and what the first says."""

    def check(folder: Path) -> Any:
        for page in folder.glob("*.html"):
            assert page.read_text().rstrip().endswith("</html>")
        found = [json.loads((folder / n).read_text()) if (folder / n).is_file() else None for n in names]
        return bare(found[0])

    return check


def table(folder: Path) -> Any:
    """Return the cells of a grid."""
    if not (folder / "results.csv").is_file():
        return None
    frame = pd.read_csv(folder / "results.csv")
    # How long is retrained for as long depends on how long forgetting took.
    timed = [c for c in frame if TIMED.search(c) or c == "of_retrain" or c.startswith("as_long")]
    return frame.drop(columns=timed).to_csv()


@dataclasses.dataclass
class World:
    """What all runs start from.

    Attributes:
        forge: What they are forked by.
        folder: Where that lies.
    """

    forge: Forge
    folder: Path

    @property
    def original(self) -> Path:
        return self.folder / "original"

    @property
    def longer(self) -> Path:
        return self.folder / "longer"

    @property
    def forgotten(self) -> Path:
        return self.folder / "forgotten"

    def run(self, *arguments: object, **more: Any) -> Running:
        run = self.forge.run(*arguments, **more)
        assert run.code == 0, run.text
        return run


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb under test.

    Attributes:
        name: With its options.
        command: From the world and where it writes to its arguments.
        made: What is there, whole; raises if something is not.
        old: What is there before, if it replaces something.
        again: Whether it may run where it has finished before.
    """

    name: str
    command: Callable[[World, Path], tuple[object, ...]]
    made: Callable[[Path], Any]
    old: Callable[[World], Path] | None = None
    again: bool = True


TRAIN = Verb("train", lambda w, out: ("train", *SMALL, "--out", out), artifact, again=False)
TRAIN_OVER = Verb(
    "train --overwrite", lambda w, out: (*TRAIN.command(w, out), "--overwrite"), artifact, lambda w: w.forgotten
)
FORGET = Verb(
    "forget", lambda w, out: ("forget", w.original, "-m", "ssd", "--classes", "0", "--out", out, "-q"), artifact,
    again=False,
)  # fmt: skip
FORGET_OVER = Verb(
    "forget --overwrite", lambda w, out: (*FORGET.command(w, out), "--overwrite"), artifact, lambda w: w.original
)
AUDIT = Verb(
    "audit",
    lambda w, out: ("audit", w.forgotten, "--original", w.original, "--out", out, "-q"),
    pages("audit.json"),
)
VERIFY = Verb(
    "verify",
    lambda w, out: ("verify", w.forgotten, "--original", w.original, "--out", out, "-q"),
    pages("verification.json", "audit.json"),
)


def _references(world: World, out: Path, n: int, backend: str, *more: object) -> tuple[object, ...]:
    source = world.longer if n > 4 else world.original
    start = ("train", "--from", source, "--references", n, "--classes", "0", "--out", out, "-q")
    return (*start, "--backend", backend, "--workers", 2, "--device", "cpu", *more)


REFERENCES = Verb("train --references", lambda w, out: _references(w, out, 8, "processes"), references)
SERIAL = Verb("train --references, one by one", lambda w, out: _references(w, out, 2, "serial"), references)
RAY = Verb("train --references, Ray", lambda w, out: _references(w, out, 4, "ray"), references)
REFERENCES_OVER = Verb(
    "train --references --overwrite",
    lambda w, out: (*_references(w, out, 2, "serial"), "--overwrite"),
    references,
    lambda w: w.folder / "references",
)
COMPARE = Verb(
    "compare, 2 workers", lambda w, out: ("compare", w.folder / "plan.yaml", "--out", out, "--workers", 2, "-q"), table
)
COMPARE_RAY = Verb(
    "compare, Ray",
    lambda w, out: ("compare", w.folder / "plan.yaml", "--out", out, "--engine", "ray", "--workers", 2, "-q"),
    table,
)
SISA_TRAIN = Verb(
    "train --method sisa",
    lambda w, out: ("train", *SMALL, "--method", "sisa", "--set", "shards=2", "--set", "slices=2", "--out", out),
    artifact,
    again=False,
)
SISA_FORGET = Verb(
    "forget -m sisa",
    lambda w, out: ("forget", w.folder / "shards", "-m", "sisa", "--items", "1,2,3", "--out", out, "-q"),
    artifact,
    again=False,
)


def _members(world: World, out: Path, backend: str, *command: object) -> tuple[object, ...]:
    """Return a command that trains members apart and keeps their slices beside its result."""
    return (*command, "--out", out, "--checkpoints", out.parent / "kept", "--backend", backend, "--workers", 2, "-q")


MEMBERS = [
    Verb(
        f"{name}, {backend}, slices kept",
        lambda w, out, backend=backend, command=command: _members(w, out, backend, *command(w)),
        lambda folder: artifact(folder)[:2],
        again=False,
    )
    for name, command in (
        ("train --method sisa", lambda w: ("train", *SMALL[:-1], "--method", "sisa", "--set", "shards=4")),
        ("forget -m sisa", lambda w: ("forget", w.folder / "shards", "-m", "sisa", "--classes", "3")),
    )
    for backend in ("serial", "processes")
]
"""Both with many slices, so that most kills come between two of them."""

QUICK = (
    (TRAIN, 10), (TRAIN_OVER, 12), (FORGET, 10), (FORGET_OVER, 12), (AUDIT, 6), (VERIFY, 6), (SERIAL, 6),
    (REFERENCES_OVER, 6), (SISA_TRAIN, 20), (SISA_FORGET, 20),
)  # fmt: skip
"""Verbs in one process, and how often each is killed."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    """Train what all runs start from."""
    folder = tmp_path_factory.mktemp("faults")
    forge = Forge(folder / "forge")
    made = World(forge, folder)
    made.run("train", *SMALL, "--out", made.original)
    made.run("train", *(a.replace("epochs=2", "epochs=6") for a in SMALL), "--out", made.longer)
    made.run("forget", made.original, "-m", "fine-tune", "--classes", "0", "--out", made.forgotten, "-q")
    made.run(*_references(made, folder / "references", 2, "serial", "--seed", 5))
    made.run(*SISA_TRAIN.command(made, folder / "shards"))
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    yield made
    forge.close()


@pytest.fixture(autouse=True)
def _noted() -> Iterator[None]:
    """Note what was tried after each test, for what the suite has shown should it be stopped itself."""
    yield
    if note := os.environ.get("EFFACE_FAULTS"):
        write_tried(Path(note))


def write_tried(path: Path) -> None:
    """Write what was tried, for docs/reliability.py; rows of tests that did not run stay."""
    before = json.loads(path.read_text()) if path.is_file() else []
    rows = {(row["fault"], row["verb"]): row for row in before}
    rows |= {(fault, verb): {"fault": fault, "verb": verb, "outcomes": {}} for fault, verb, _ in TRIED}
    for (fault, verb, outcome), count in sorted(TRIED.items()):
        rows[fault, verb]["outcomes"][outcome] = count
    path.write_text(json.dumps([rows[key] for key in sorted(rows)], indent=1) + "\n")


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory) -> Callable[[Verb], tuple[Any, float, int]]:
    """Return what a verb makes when nothing happens, how long that takes, and in how many steps on disk."""
    known: dict[str, tuple[Any, float, int]] = {}

    def run(verb: Verb) -> tuple[Any, float, int]:
        if verb.name not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            prepared(world, verb, folder / "out")
            started, count = time.monotonic(), folder / "count"
            done = world.forge.run(*verb.command(world, folder / "out"), within=folder, count=count)
            assert done.code in ENDS, done.text
            known[verb.name] = verb.made(folder / "out"), time.monotonic() - started, int(count.read_text())
        return known[verb.name]

    return run


ENDS = (0, 3, 4)
"""Exit statuses of a verb that came to its end: 3 and 4 are answers of `verify`."""

ENDED = "ended before"
"""Outcome of a run whose kill came too late."""

FIRST, WITH = "a worker first", "with its workers"
"""Outcomes of runs with workers: what was killed; docs/reliability.py counts by these words."""


def prepared(world: World, verb: Verb, out: Path) -> None:
    """Put what is to be replaced where the verb writes."""
    if verb.old is not None:
        shutil.copytree(verb.old(world), out)


def state(verb: Verb, out: Path, old: Any, new: Any) -> str:
    """Say what is there, once it has been found whole."""
    if not out.exists():
        assert old is None, "neither the old nor the new one is there"
        return "nothing"
    if verb.made in {artifact, references} and not any(p.name not in {".lock"} for p in out.iterdir()):
        return "nothing"
    if verb.made is references and not (out / "references.json").is_file():
        return "a part"
    found = verb.made(out)
    if found == new:
        return "new"
    if old is not None:
        assert found == old
        return "old"
    assert verb.again, "half of it"
    return "a part"


def assert_gone(world: World, run: Running, family: set[int], verb: Verb) -> None:
    """Check that no process and no copy of the data is left."""
    seconds = 150 if "Ray" in verb.name else 20  # Ray's agents look for what started them now and then
    assert waited(lambda: not family & parents().keys(), seconds), f"{verb.name}: processes outlive it: {run.text}"
    assert not copies(world.forge)


def assert_completed(world: World, verb: Verb, out: Path, before: str, new: Any) -> None:
    """Run the verb again, and check that it makes what an undisturbed run makes, and leaves nothing."""
    again = world.forge.run(*verb.command(world, out))
    if before == "new" and not verb.again:
        assert again.code == 2, again.text
    else:
        assert again.code in ENDS, again.text
    assert verb.made(out) == new
    assert not drafts(out.parent)


# --- kills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "times"), QUICK, ids=[v.name for v, _ in QUICK])
def test_killed_at_any_moment_the_old_or_the_new_is_whole_and_a_re_run_completes_it(
    world, undisturbed, tmp_path, verb, times
):
    """Half at random moments, half at random steps on disk, where replacing takes microseconds."""
    chance = random.Random(f"kills of {verb.name}")
    new, seconds, steps = undisturbed(verb)
    old = None if verb.old is None else verb.made(verb.old(world))
    for number in range(times):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        if number % 2:
            run = world.forge.start(*verb.command(world, out), within=out.parent, step=chance.randint(1, steps))
            family = run.family()
        else:
            run = world.forge.start(*verb.command(world, out))
            time.sleep(chance.random() * seconds)
            family = run.family()
            run.kill()
        run.end()
        assert_gone(world, run, family, verb)
        found = state(verb, out, old, new)
        assert_completed(world, verb, out, found, new)
        TRIED["killed", verb.name, f"then {found}" if run.code == -signal.SIGKILL else ENDED] += 1


def workers(run: Running) -> set[int]:
    """Return the processes that work for a run: Ray's, or those that are no servers of multiprocessing."""
    known, family = parents(), run.family()
    lines = {pid: _command(pid) for pid in family}
    if any(b"raylet" in line or b"gcs_server" in line for line in lines.values()):
        return {pid for pid, line in lines.items() if line.startswith(b"ray::") and b"Agent" not in line}
    return {pid for pid, line in lines.items() if known.get(pid) != run.pid or b"multiprocessing." not in line}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def disturbed(
    world: World,
    verb: Verb,
    out: Path,
    chance: random.Random,
    worker_first: bool,
    seconds: float,
    orphans: set[int] | None = None,
) -> str:
    """Start a run and kill it at a random moment; say what came of it.

    Args:
        world: What it starts from.
        verb: What is run.
        out: Where it writes.
        chance: For moments.
        worker_first: Kill a worker before it.
        seconds: Within which it is killed.
        orphans: Where to add its workers, which may still be ending then; they are waited for by default.
    """
    run = world.forge.start(*verb.command(world, out))
    one = False
    if worker_first:
        waited(lambda: workers(run) or not run.alive(), 120)
        time.sleep(chance.random() * seconds / 2)
        one = kill_one(workers(run), chance)
        time.sleep(chance.random() * seconds / 2)
    else:
        time.sleep(chance.random() * seconds)
    family = run.family()
    run.kill()
    run.end()
    if orphans is None:
        assert_gone(world, run, family, verb)
    else:
        orphans |= family
    if run.code != -signal.SIGKILL:
        return ENDED
    return FIRST if one else WITH


def with_worker(number: int) -> bool:
    """Whether a worker is killed before the run is: in two of three."""
    return number % 3 != 2


def one_worker_killed(
    world: World, verb: Verb, out: Path, chance: random.Random, orphans: frozenset[int] | set[int] = frozenset()
) -> None:
    """Run a verb and kill nothing but a worker: its job is done by another one."""
    run = world.forge.start(*verb.command(world, out))
    killed = waited(lambda: workers(run) or not run.alive(), 120) and kill_one(workers(run), chance)
    assert run.end() == 0, run.text
    assert_gone(world, run, set(orphans), verb)
    TRIED["only a worker killed", verb.name, "undisturbed result"] += killed


@pytest.mark.parametrize("verb", MEMBERS, ids=[v.name for v in MEMBERS])
def test_members_killed_at_random_moments_go_on_from_their_slices_to_the_same_bits(world, undisturbed, tmp_path, verb):
    """Each is killed twice; then it ends with the undisturbed bits, and then nothing is left of what was kept."""
    chance, went_on, apart = random.Random(f"kills of {verb.name}"), 0, "serial" not in verb.name
    new, seconds, _ = undisturbed(verb)
    for number in range(10):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        for again in range(2):
            before = len(list((out.parent / "kept").glob("*.safetensors")))
            outcome = disturbed(world, verb, out, chance, apart and with_worker(2 * number + again), seconds)
            if outcome == ENDED:
                TRIED["killed", verb.name, outcome] += 1
                break
            kept = len(list((out.parent / "kept").glob("*.safetensors")))
            assert kept >= before or out.exists()  # what is finished is kept until all is
            which = f"{outcome}, " if apart else ""
            TRIED["killed", verb.name, f"{which}with {'some' if kept else 'no'} slices finished"] += 1
        if not out.exists():
            if apart:
                one_worker_killed(world, verb, out, chance)
            else:
                assert world.forge.run(*verb.command(world, out)).code == 0
            went_on += any("went on after slice" in note for note in Artifact.read_record(out).notes)
            assert not list((out.parent / "kept").iterdir())
        assert verb.made(out) == new
        assert not drafts(out)
    assert went_on


def finished(cells: Path) -> dict[str, bytes]:
    """Return the finished cells' files."""
    return {f.name: f.read_bytes() for f in cells.glob("*.json") if re.fullmatch(r"[0-9a-f]{24}\.json", f.name)}


@pytest.mark.parametrize(
    ("verb", "chains", "kills"),
    [(REFERENCES, 5, 4), (COMPARE, 2, 10), (RAY, 1, 4), (COMPARE_RAY, 1, 2)],
    ids=lambda value: value.name if isinstance(value, Verb) else str(value),
)
def test_killed_with_its_workers_again_and_again_the_last_run_completes_it(
    world, undisturbed, tmp_path, verb, chains, kills
):
    """Most of them with a worker killed first; in the last run, a worker alone is killed.

    Every second run begins at once, while workers of the one before it may still be there.
    """
    if "Ray" in verb.name:
        pytest.importorskip("ray")
    chance = random.Random(f"kills of {verb.name}")
    new, seconds, _ = undisturbed(verb)
    for chain in range(chains):
        out = tmp_path / str(chain) / "out"
        kept: dict[str, bytes] = {}
        orphans = set[int]()
        for number in range(kills):
            left = orphans if number % 2 else None
            outcome = disturbed(world, verb, out, chance, with_worker(number), 1.5 * seconds / kills, left)
            TRIED["killed", verb.name, outcome] += 1
            if out.exists():
                state(verb, out, None, new)
            assert kept.items() <= finished(out / ".cells").items()  # what is finished is not computed again
            kept = finished(out / ".cells")
        one_worker_killed(world, verb, out, chance, orphans)
        assert kept.items() <= finished(out / ".cells").items()
        assert verb.made(out) == new
        assert not drafts(out.parent)


def test_terminated_references_unwind_and_end_with_143(world, undisturbed, tmp_path):
    chance, out = random.Random("SIGTERM"), tmp_path / "out"
    for _ in range(3):
        run = world.forge.start(*REFERENCES.command(world, out), forked=False)
        waited(lambda run=run: workers(run) or not run.alive(), 120)
        time.sleep(chance.random())
        family = run.family()
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGTERM)
        assert run.end() in {143, 0}, run.text
        if run.code:
            assert not drafts(out)
        assert_gone(world, run, family, REFERENCES)
        TRIED["terminated (SIGTERM)", REFERENCES.name, "unwound" if run.code else ENDED] += 1
    assert_completed(world, REFERENCES, out, "a part", undisturbed(REFERENCES)[0])


# --- races ----------------------------------------------------------------------------------------------------------


RACED = (TRAIN, TRAIN_OVER, FORGET, FORGET_OVER, AUDIT, VERIFY, REFERENCES, REFERENCES_OVER, COMPARE)


@pytest.mark.parametrize("verb", RACED, ids=lambda v: v.name)
def test_of_two_at_once_one_or_both_end_well_and_nobody_breaks_the_others(world, undisturbed, tmp_path, verb):
    new, seconds, _ = undisturbed(verb)
    chance = random.Random(f"races of {verb.name}")
    for number in range(2 if verb in {REFERENCES, COMPARE} else 4):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        first = world.forge.start(*verb.command(world, out))
        time.sleep(chance.random() * seconds / 3)
        second = world.forge.start(*verb.command(world, out))
        codes = sorted((first.end(), second.end()))
        said = first.text + second.text
        assert "Traceback" not in said
        if verb.again or verb.old is not None:
            assert set(codes) <= set(ENDS), said
            outcome = "both ended well"
        else:
            assert codes == [0, 2], said  # the other is told that something is there
            outcome = "one ended well, the other was told"
        assert verb.made(out) == new
        assert not drafts(out.parent)
        TRIED["raced by another", verb.name, outcome] += 1


# --- no room --------------------------------------------------------------------------------------------------------


STARVED = (TRAIN, TRAIN_OVER, FORGET, FORGET_OVER, AUDIT, VERIFY, SERIAL, REFERENCES, REFERENCES_OVER, COMPARE)


def assert_starved(world: World, verb: Verb, out: Path, run: Running, undisturbed: Any) -> str:
    """Check that a run without room failed with a clear error, and that what was there is whole."""
    new, *_ = undisturbed(verb)
    old = None if verb.old is None else verb.made(verb.old(world))
    assert "Traceback" not in run.text
    found = state(verb, out, old, new)
    assert run.code in (1, *(ENDS if found == "new" else ())), (run.code, run.text)
    if run.code == 1:
        assert re.search(r"^error: .*(No space left|File too large)", run.text, re.MULTILINE), run.text
    assert not drafts(out.parent)
    assert not copies(world.forge)
    return f"exit status {run.code}, then {found}"


@pytest.mark.parametrize("verb", [v for v in STARVED if v is not REFERENCES], ids=lambda v: v.name)
def test_a_limit_on_files_is_an_error_and_loses_nothing(world, undisturbed, tmp_path, verb):
    # Sharing data with processes is refused under such a limit, with exit status 2: their references are left out.
    chance = random.Random(f"limits of {verb.name}")
    for number in range(1 if verb is COMPARE else 3):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        run = world.forge.run(*verb.command(world, out), limit=chance.choice((200, 1000, 2000)))
        outcome = assert_starved(world, verb, out, run, undisturbed)
        TRIED["limit on files", verb.name, outcome] += 1
        assert_completed(world, verb, out, "a part", undisturbed(verb)[0])


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Mount a small disk in memory, or skip where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def filled(disk: Path, left: int) -> Path:
    """Fill a disk but for some bytes; return the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, file.tell() - left))
    return filler


@pytest.mark.parametrize("verb", STARVED, ids=lambda v: v.name)
def test_a_full_disk_is_an_error_and_loses_nothing(world, undisturbed, disk, verb):
    out = disk / "out"
    prepared(world, verb, out)
    for left in (0,) if verb in {REFERENCES, COMPARE} else (0, 8192):
        filler = filled(disk, left)
        run = world.forge.run(*verb.command(world, out))
        outcome = assert_starved(world, verb, out, run, undisturbed)
        TRIED["full disk", verb.name, outcome] += 1
        filler.unlink()
    assert_completed(world, verb, out, "a part", undisturbed(verb)[0])


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_references_on_a_disk_without_room_are_used_and_their_answers_not_kept(world, disk, tmp_path, how):
    folder = disk / "references"
    shutil.copytree(world.folder / "references", folder)
    if how == "full":
        filled(disk, 0)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    command = ("audit", world.forgotten, "--original", world.original, "--references", folder, "-q", "--out")
    run = world.run(*command, tmp_path / "audit")
    assert run.text.count("answers cannot be kept") == 1, run.text
    assert not drafts(disk)
    TRIED[f"{how} folder of references", "audit", "audited, one warning"] += 1
    if how == "read-only":
        ask = _references(world, folder, 2, "serial", "--seed", 5)
        world.run(*ask)
        more = world.forge.run(*_references(world, folder, 3, "serial", "--seed", 5))
        assert more.code == 2, more.text
        assert "cannot be written to, and these are not in it: reference-002" in more.text
        audited = world.forge.run(*command, folder / "audit")
        assert audited.code == 2, audited.text
        TRIED["read-only folder of references", "train --references", "used; one more refused"] += 1


# --- the ladder -----------------------------------------------------------------------------------------------------


LADDER = "forget, by the ladder"


def test_a_ladder_killed_in_a_rung_resumes_there(world, tmp_path):
    """Finished trials are kept beside the result and not done again; then the same model comes out, and they go."""
    judges, out, chance = tmp_path / "judges", tmp_path / "forgotten", random.Random(2)
    original = tmp_path / "original"
    world.run("train", *(a.replace("epochs=2", "epochs=30") for a in SMALL), "--out", original)
    asked = ("--references", 4, "--classes", "0", "--backend", "serial", "--device", "cpu", "-q")
    world.run("train", "--from", original, *asked, "--out", judges)
    trials = tmp_path / ".forgotten.trials" / "trials.json"

    def done() -> int:
        return len(json.loads(trials.read_text())["trials"]) if trials.is_file() else 0

    def command(to: Path) -> tuple[object, ...]:
        asked = ("--classes", "0", "--references", judges, "--out", to, "--device", "cpu", "-q")
        return ("forget", original, *asked)

    kept = 0
    for goal in (0, 1, 2):
        run = world.forge.start(*command(out))
        waited(lambda run=run, goal=goal: done() > goal or not run.alive(), 240)
        time.sleep(chance.random() / 10)
        family = run.family()
        run.kill()
        if run.end() == -signal.SIGKILL:
            kept = done()
            TRIED["killed", LADDER, f"with {kept} trials finished"] += 1
        assert_gone(world, run, family, FORGET)
        if out.is_dir():
            break
    assert kept >= 1  # it was killed with a rung behind it
    undisturbed = world.forge.run(*command(tmp_path / "undisturbed"))
    if not out.is_dir() or trials.parent.exists():  # a kill between the result and the end of its trials leaves both
        run = world.forge.run(*command(out), "--overwrite")
        assert run.code == undisturbed.code, run.text
    found, expected = (Artifact.read_record(p) for p in (out, tmp_path / "undisturbed"))
    assert any("kept from an earlier start" in note for note in found.notes)
    assert (found.weights_after, found.method) == (expected.weights_after, expected.method)
    assert not trials.parent.exists()
    assert not drafts(tmp_path)
