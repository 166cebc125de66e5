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
        workers: Whether it starts other processes for its work.
    """

    name: str
    command: Callable[[World, Path], tuple[object, ...]]
    made: Callable[[Path], Any]
    old: Callable[[World], Path] | None = None
    again: bool = True
    workers: bool = False


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


REFERENCES = Verb(
    "train --references, processes", lambda w, out: _references(w, out, 8, "processes"), references, workers=True
)
SERIAL = Verb("train --references, one by one", lambda w, out: _references(w, out, 2, "serial"), references)
RAY = Verb("train --references, Ray", lambda w, out: _references(w, out, 4, "ray"), references, workers=True)
REFERENCES_OVER = Verb(
    "train --references --overwrite",
    lambda w, out: (*_references(w, out, 2, "serial"), "--overwrite"),
    references,
    lambda w: w.folder / "references",
)
PROCESSES_OVER = Verb(
    "train --references --overwrite, processes",
    lambda w, out: (*_references(w, out, 5, "processes"), "--overwrite"),
    references,
    lambda w: w.folder / "references",
    workers=True,
)
COMPARE = Verb(
    "compare, 2 workers",
    lambda w, out: ("compare", w.folder / "plan.yaml", "--out", out, "--workers", 2, "-q"),
    table,
    workers=True,
)
COMPARE_RAY = Verb(
    "compare, Ray",
    lambda w, out: ("compare", w.folder / "plan.yaml", "--out", out, "--engine", "ray", "--workers", 2, "-q"),
    table,
    workers=True,
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


SLICED = (
    "train", *(a.replace("epochs=2", "epochs=8") for a in SMALL[:-1]), "--method", "sisa", "--set", "shards=4",
    "--set", "slices=4",
)  # fmt: skip


def _members(world: World, out: Path, backend: str, *command: object) -> tuple[object, ...]:
    """Return a command that trains members apart and keeps their slices beside its result."""
    return (*command, "--out", out, "--checkpoints", out.parent / "kept", "--backend", backend, "--workers", 2, "-q")


MEMBERS = [
    Verb(
        f"{name}, {backend}, slices kept",
        lambda w, out, backend=backend, command=command: _members(w, out, backend, *command(w)),
        lambda folder: artifact(folder)[:2],
        again=False,
        workers=backend == "processes",
    )
    for name, command in (
        ("train --method sisa", lambda w: SLICED),
        ("forget -m sisa", lambda w: ("forget", w.folder / "slices", "-m", "sisa", "--classes", "3")),
    )
    for backend in ("serial", "processes")
]
"""Both train four members in two slices or more each, so that most kills come between two of them."""

QUICK = (
    (TRAIN, 10), (TRAIN_OVER, 12), (FORGET, 10), (FORGET_OVER, 12), (AUDIT, 10), (VERIFY, 10), (SERIAL, 8),
    (REFERENCES_OVER, 8), (SISA_TRAIN, 10), (SISA_FORGET, 10),
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
    made.run(*SLICED, "--backend", "serial", "--out", folder / "slices")
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


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """A run to which nothing happens.

    Attributes:
        made: What it makes.
        seconds: How long it takes.
        steps: On disk.
        working: Seconds from its first worker's start to its last worker's end; 0 for runs without.
    """

    made: Any
    seconds: float
    steps: int
    working: float


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory) -> Callable[[Verb], Undisturbed]:
    """Return what a verb does when nothing happens."""
    known: dict[str, Undisturbed] = {}

    def run(verb: Verb) -> Undisturbed:
        if verb.name not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            prepared(world, verb, folder / "out")
            started, count = time.monotonic(), folder / "count"
            running = world.forge.start(*verb.command(world, folder / "out"), within=folder, count=count)
            working = watched(running) if verb.workers else 0.0
            assert running.end() in ENDS, running.text
            seconds = time.monotonic() - started
            known[verb.name] = Undisturbed(verb.made(folder / "out"), seconds, int(count.read_text()), working)
        return known[verb.name]

    return run


def watched(run: Running) -> float:
    """Return how long a run has workers, once it has ended."""
    seen = list[float]()
    while run.alive():
        if workers(run):
            seen.append(time.monotonic())
        time.sleep(0.02)
    assert seen, f"it had no workers: {run.text}"
    return seen[-1] - seen[0]


ENDS = (0, 3, 4)
"""Exit statuses of a verb that came to its end: 3 and 4 are answers of `verify`."""

ENDED = "ended before"
"""Outcome of a run whose kill came too late."""

FIRST, WITH = "a worker first", "with its workers"
"""Outcomes of runs with workers: what was killed; docs/reliability.py counts by these words."""

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that was ended by SIGTERM."""


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
    assert not [*Path("/dev/shm").glob(f"torch_{run.pid}_*")]  # where PyTorch shares memory


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
    alone = undisturbed(verb)
    kills = Kills(verb, alone.seconds)
    old = None if verb.old is None else verb.made(verb.old(world))
    for number in kills.attempts(times):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        if at_step := number % 2:
            step = kills.chance.randint(1, alone.steps)
            run = world.forge.start(*verb.command(world, out), within=out.parent, step=step)
            family = run.family()
        else:
            run = world.forge.start(*verb.command(world, out))
            kills.sleep()
            family = run.family()
            run.kill()
        killed = run.end() == -signal.SIGKILL
        if not at_step:
            kills.counted(killed)
        else:
            kills.done += killed
        assert_gone(world, run, family, verb)
        found = state(verb, out, old, alone.made)
        assert_completed(world, verb, out, found, alone.made)
        TRIED["killed", verb.name, f"then {found}" if killed else ENDED] += 1


def workers(run: Running) -> set[int]:
    """Return the processes that work for a run: Ray's, or those that are no servers of multiprocessing."""
    known, family = parents(), run.family()
    lines = {pid: _command(pid) for pid in family}
    if run.ray:  # those with a job; others are `ray::IDLE`, and there are agents, and what starts them
        return {pid for pid, line in lines.items() if line.startswith((b"ray::_remote", b"ray::efface"))}
    return {pid for pid, line in lines.items() if known.get(pid) != run.pid or b"multiprocessing." not in line}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclasses.dataclass
class Kills:
    """Kills of one verb: at random moments, which come earlier after every run that ended before its kill.

    Attributes:
        verb: Whose.
        seconds: Within which a run is killed; of runs with workers, from the first worker's start.
        before: Seconds until the first worker's start.
        done: Kills so far.
        after_worker: Those after one of the workers had been killed.
    """

    verb: Verb
    seconds: float
    before: float = 0.0
    done: int = 0
    after_worker: int = 0
    chance: random.Random = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"kills of {self.verb.name}")

    @classmethod
    def with_workers(cls, verb: Verb, alone: Undisturbed, share: float = 1.0) -> Kills:
        """Return those of a verb with workers, within a share of the time in which they work."""
        return cls(verb, share * alone.working, alone.seconds - alone.working)

    def attempts(self, wanted: int) -> Iterator[int]:
        """Count attempts until so many kills came in time, of which at least half after that of a worker."""
        for number in range(3 * wanted):
            if self.done >= wanted:
                break
            yield number
        assert self.done >= wanted, f"{self.verb.name}: only {self.done} kills came in time"
        assert not self.verb.workers or 2 * self.after_worker >= self.done

    @property
    def worker_first(self) -> bool:
        """Whether the next one is to come after that of a worker: so that two of three do."""
        return self.verb.workers and 3 * self.after_worker <= 2 * self.done

    def sleep(self, share: float = 1.0, before: float = 0.0) -> None:
        """Wait for a random moment."""
        time.sleep(self.chance.random() * (before + share * self.seconds))

    def counted(self, killed: bool, after_worker: bool = False) -> None:
        """Count a kill, or take note that it came too late."""
        if not killed:
            self.seconds *= 0.8
        self.done += killed
        self.after_worker += killed and after_worker


def disturbed(world: World, out: Path, kills: Kills, orphans: set[int] | None = None) -> str:
    """Start a run and kill it at a random moment; say what came of it.

    Args:
        world: What it starts from.
        out: Where it writes.
        kills: Of which this is one.
        orphans: Where to add its workers, which may still be ending then; they are waited for by default.
    """
    verb, one = kills.verb, False
    run = world.forge.start(*verb.command(world, out))
    if kills.worker_first:
        waited(lambda: workers(run) or not run.alive(), 120)
        kills.sleep(0.5)
        one = kill_one(workers(run), kills.chance)
        kills.sleep(0.5)
    else:
        kills.sleep(1.0, kills.before)
    family = run.family()
    run.kill()
    killed = run.end() == -signal.SIGKILL
    kills.counted(killed, one)
    if orphans is None:
        assert_gone(world, run, family, verb)
    else:
        orphans |= family
    return (FIRST if one else WITH) if killed else ENDED


def one_worker_killed(world: World, out: Path, kills: Kills, orphans: set[int] | None = None) -> bool:
    """Run a verb and kill nothing but a worker: its job is done by another one; return whether there was a worker."""
    run = world.forge.start(*kills.verb.command(world, out))
    killed = waited(lambda: workers(run) or not run.alive(), 120) and kill_one(workers(run), kills.chance)
    assert run.end() == 0, run.text
    assert_gone(world, run, orphans or set(), kills.verb)
    if killed:
        TRIED["only a worker killed", kills.verb.name, "undisturbed result"] += 1
    return killed


def assert_a_worker_is_done_without(world: World, out: Path, kills: Kills, made: Any) -> None:
    """Kill a worker, and nothing else, in a run that has all its work before it."""
    out.parent.mkdir()
    prepared(world, kills.verb, out)
    assert one_worker_killed(world, out, kills)
    assert kills.verb.made(out) == made
    assert not drafts(out.parent)


def kept(out: Path) -> set[str]:
    """Return the names of the slices that are kept beside a result."""
    return {p.name for p in (out.parent / "kept").glob("*.safetensors")}


@pytest.mark.parametrize("verb", MEMBERS, ids=[v.name for v in MEMBERS])
def test_members_killed_at_random_moments_go_on_from_their_slices_to_the_same_bits(world, undisturbed, tmp_path, verb):
    """Each is killed twice; then it ends with the undisturbed bits, and then nothing is left of what was kept."""
    alone = undisturbed(verb)
    kills = Kills.with_workers(verb, alone) if verb.workers else Kills(verb, alone.seconds)
    went_on = 0
    for number in kills.attempts(20):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        for _ in range(2):
            before = kept(out)
            outcome = disturbed(world, out, kills)
            assert out.exists() or before <= kept(out)  # what is finished is kept until all is
            if outcome != ENDED:
                which = f"{outcome}, " if verb.workers else ""
                outcome = f"{which}with {'some' if kept(out) else 'no'} slices finished"
            TRIED["killed", verb.name, outcome] += 1
            if out.exists():
                break
        if not out.exists():
            some = bool(kept(out))
            if verb.workers:
                one_worker_killed(world, out, kills)
            else:
                assert world.forge.run(*verb.command(world, out)).code == 0
            noted = any("went on after slice" in note for note in Artifact.read_record(out).notes)
            assert noted or not some
            went_on += some
            assert not kept(out)
        assert verb.made(out) == alone.made
        assert not drafts(out)
    assert went_on
    if verb.workers:
        assert_a_worker_is_done_without(world, tmp_path / "last" / "out", kills, alone.made)


def finished(cells: Path) -> dict[str, bytes]:
    """Return the finished cells' files."""
    return {f.name: f.read_bytes() for f in cells.glob("*.json") if re.fullmatch(r"[0-9a-f]{24}\.json", f.name)}


@pytest.mark.parametrize(
    ("verb", "wanted", "chain"),
    [(REFERENCES, 20, 4), (COMPARE, 20, 5), (PROCESSES_OVER, 16, 4), (RAY, 8, 4), (COMPARE_RAY, 6, 3)],
    ids=lambda value: value.name if isinstance(value, Verb) else str(value),
)
def test_killed_with_its_workers_again_and_again_the_last_run_completes_it(
    world, undisturbed, tmp_path, verb, wanted, chain
):
    """Most of them with a worker killed first; in the last run of a chain, a worker alone is killed.

    Every second run (over Ray each) begins at once, while workers of the one before it may still be there.
    """
    if "Ray" in verb.name:
        pytest.importorskip("ray")
    alone = undisturbed(verb)
    old = None if verb.old is None else verb.made(verb.old(world))
    # What is finished is found again: together, the runs of a chain take as long as one.
    kills = Kills.with_workers(verb, alone, 1.5 / chain if verb.old is None else 1.0)
    for number in kills.attempts(wanted):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        cells: dict[str, bytes] = {}
        orphans = set[int]()
        for link in range(chain):
            # Ray's agents take a minute to end: they are waited for once, after the last run of the chain.
            at_once = link % 2 or "Ray" in verb.name
            outcome = disturbed(world, out, kills, orphans if at_once else None)
            TRIED["killed", verb.name, outcome] += 1
            found = state(verb, out, old, alone.made)
            assert cells.items() <= finished(out / ".cells").items()  # what is finished is not computed again
            cells = finished(out / ".cells")
            if outcome == ENDED or (verb.old is not None and found == "new"):
                break
        alone_killed = one_worker_killed(world, out, kills, orphans)
        assert cells.items() <= finished(out / ".cells").items()
        assert verb.made(out) == alone.made
        assert not drafts(out.parent)
    if not alone_killed:
        assert_a_worker_is_done_without(world, tmp_path / "last" / "out", kills, alone.made)


STOPPED = (
    TRAIN, TRAIN_OVER, FORGET, FORGET_OVER, AUDIT, VERIFY, SERIAL, REFERENCES, REFERENCES_OVER, COMPARE, RAY,
)  # fmt: skip


@pytest.mark.parametrize("verb", STOPPED, ids=lambda v: v.name)
def test_terminated_runs_unwind_and_end_with_143(world, undisturbed, tmp_path, verb):
    alone = undisturbed(verb)
    old = None if verb.old is None else verb.made(verb.old(world))
    kills = Kills(verb, alone.working / 2 or alone.seconds)
    for number in range(3):
        if verb is RAY and kills.done:  # its cluster takes long to start and to end
            break
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        run = world.forge.start(*verb.command(world, out), forked=False)
        waited(lambda run=run: handles(run, signal.SIGTERM) or not run.alive(), 20)
        if verb.workers:
            waited(lambda run=run: workers(run) or not run.alive(), 120)
        kills.sleep()
        family = run.family()
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGTERM)
        assert run.end() in {TERMINATED, *ENDS}, run.text
        assert "Traceback" not in run.text
        assert_gone(world, run, family, verb)
        assert not drafts(out.parent)  # that is unwinding: nobody has to come next
        found = state(verb, out, old, alone.made)
        terminated = run.code == TERMINATED
        kills.counted(terminated)
        TRIED["terminated (SIGTERM)", verb.name, f"unwound, then {found}" if terminated else ENDED] += 1
        assert_completed(world, verb, out, found, alone.made)
    assert kills.done


def handles(run: Running, number: int) -> bool:
    """Whether a run has a handler of its own for a signal, which it sets before any work."""
    status = Path(f"/proc/{run.pid}/status")
    with contextlib.suppress(OSError):
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
    return False


# --- races ----------------------------------------------------------------------------------------------------------


RACED = (TRAIN, TRAIN_OVER, FORGET, FORGET_OVER, AUDIT, VERIFY, SERIAL, REFERENCES, REFERENCES_OVER, COMPARE)


@pytest.mark.parametrize("verb", RACED, ids=lambda v: v.name)
def test_of_two_at_once_one_or_both_end_well_and_nobody_breaks_the_others(world, undisturbed, tmp_path, verb):
    alone = undisturbed(verb)
    chance = random.Random(f"races of {verb.name}")
    for number in range(2 if verb in {REFERENCES, COMPARE} else 4):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        first = world.forge.start(*verb.command(world, out))
        time.sleep(chance.random() * alone.seconds / 3)
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
        assert verb.made(out) == alone.made
        assert not drafts(out.parent)
        TRIED["raced by another", verb.name, outcome] += 1


# --- no room --------------------------------------------------------------------------------------------------------


STARVED = (TRAIN, TRAIN_OVER, FORGET, FORGET_OVER, AUDIT, VERIFY, SERIAL, REFERENCES, REFERENCES_OVER, COMPARE)


def assert_starved(world: World, verb: Verb, out: Path, run: Running, undisturbed: Any) -> str:
    """Check that a run without room failed with a clear error, and that what was there is whole."""
    old = None if verb.old is None else verb.made(verb.old(world))
    assert "Traceback" not in run.text
    found = state(verb, out, old, undisturbed(verb).made)
    assert run.code in (1, *(ENDS if found == "new" else ())), (run.code, run.text)
    if run.code == 1:
        assert re.search(r"^error: .*(No space left|File too large)", run.text, re.MULTILINE), run.text
    assert not drafts(out.parent)
    assert not copies(world.forge)
    return f"exit status {run.code}, then {found}"


@pytest.mark.parametrize("verb", STARVED, ids=lambda v: v.name)
def test_a_limit_on_files_is_an_error_and_loses_nothing(world, undisturbed, tmp_path, verb):
    chance = random.Random(f"limits of {verb.name}")
    for number in range(1 if verb is COMPARE else 3):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        prepared(world, verb, out)
        run = world.forge.run(*verb.command(world, out), limit=chance.choice((200, 1000, 2000)))
        outcome = assert_starved(world, verb, out, run, undisturbed)
        TRIED["limit on files", verb.name, outcome] += 1
        assert_completed(world, verb, out, "a part", undisturbed(verb).made)


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
    assert_completed(world, verb, out, "a part", undisturbed(verb).made)


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


def test_a_ladder_killed_at_random_moments_resumes_where_it_was(world, tmp_path):
    """Finished trials are kept beside the result and not done again; then the same model comes out, and they go.

    Each search is killed three times at most; the first one right after its first trial, so that one is there.
    """
    judges, original = tmp_path / "judges", tmp_path / "original"
    world.run("train", *(a.replace("epochs=2", "epochs=30") for a in SMALL), "--out", original)
    asked = ("--references", 4, "--classes", "0", "--backend", "serial", "--device", "cpu", "-q")
    world.run("train", "--from", original, *asked, "--out", judges)

    def command(_: World, to: Path) -> tuple[object, ...]:
        asked = ("--classes", "0", "--references", judges, "--out", to, "--device", "cpu", "-q")
        return ("forget", original, *asked)

    started = time.monotonic()
    undisturbed = world.forge.run(*command(world, tmp_path / "undisturbed"))
    expected = Artifact.read_record(tmp_path / "undisturbed")
    kills = Kills(Verb(LADDER, command, artifact, again=False), time.monotonic() - started)
    went_on = 0
    for number in kills.attempts(12):
        out = tmp_path / str(number) / "out"
        out.parent.mkdir()
        trials = out.parent / ".out.trials" / "trials.json"
        for link in range(3):
            kept = trials_of(trials)
            run = world.forge.start(*command(world, out))
            if number == link == 0:
                waited(lambda run=run, trials=trials: trials_of(trials) or not run.alive(), 240)
            else:
                kills.sleep()
            family = run.family()
            run.kill()
            killed = run.end() == -signal.SIGKILL
            kills.counted(killed)
            assert_gone(world, run, family, kills.verb)
            found = trials_of(trials)
            assert out.is_dir() or found[: len(kept)] == kept  # what is finished is kept, and is as it was
            outcome = "then new" if out.is_dir() else f"with {len(found)} trials finished"
            TRIED["killed", LADDER, outcome if killed else ENDED] += 1
            if out.is_dir():
                break
        if not out.is_dir() or trials.parent.exists():  # a kill between the result and the end of its trials: both
            some = bool(trials_of(trials))
            run = world.forge.run(*command(world, out), "--overwrite")
            assert run.code == undisturbed.code, run.text
            noted = any("kept from an earlier start" in note for note in Artifact.read_record(out).notes)
            assert noted or not some
            went_on += some
        found = Artifact.read_record(out)
        assert (found.weights_after, found.method) == (expected.weights_after, expected.method)
        assert not trials.parent.exists()
        assert not drafts(out.parent)
    assert went_on


def trials_of(file: Path) -> list[Any]:
    """Return the trials of a search that are finished."""
    return json.loads(file.read_text())["trials"] if file.is_file() else []
