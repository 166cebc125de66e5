"""Real runs of the command line to be killed: forked from one process that has imported everything, so that each is
there in a moment; the processes that they leave, and what they leave on disk.

`python -m tests.faults` is that process: one JSON line asks for a run or for its end, one JSON line answers.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from efface.drafts import MARK, OLD, PART
from efface.running import engines, workers

ROOT = Path(__file__).resolve().parents[1]

AUDIT = {"few_draws": 2, "resamples": 100, "relearn_cap": 3, "probe_per_class": 20, "attack_samples": 60}
"""Small audits: what is interrupted counts here, not what is measured."""

STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.scandir", "os.truncate")
"""Events of the interpreter that touch the disk."""


# --- in the process that forks --------------------------------------------------------------------------------------


def serve() -> None:
    """Fork a run for each line that asks for one."""
    import matplotlib.pyplot  # noqa: F401 - imported here once
    import torch

    import efface.auditing.sealed
    import efface.references
    import efface.report.console
    import efface.verbs.compare
    import efface.verbs.verify  # noqa: F401
    from efface import cli
    from efface.auditing import settings

    torch.set_num_threads(1)
    started = settings.AuditSettings.__init__
    # The class stays the one that other processes find.
    settings.AuditSettings.__init__ = lambda self, **given: started(self, **(AUDIT | given))  # type: ignore[method-assign]
    _warm(cli.app)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork() or _run(cli.main, asked)
        print(json.dumps(answer), flush=True)


def _warm(app: Any) -> None:
    """Do a little of everything, so that what is imported or read on first use is there."""
    small = ("--data", "digits", "--model", "mlp", "--model-set", "hidden=[4]", "--recipe-set", "epochs=1", "-q")
    with tempfile.TemporaryDirectory() as folder:
        original, forgotten = f"{folder}/original", f"{folder}/forgotten"
        for command in (
            ("train", *small, "--out", original),
            ("forget", original, "-m", "ssd", "--classes", "0", "--out", forgotten, "-q"),
            ("audit", forgotten, "--original", original, "-q"),
            ("verify", forgotten, "--original", original, "--out", f"{folder}/verified", "-q"),
        ):
            CliRunner().invoke(app, command)


def _run(main: Callable[[], None], asked: dict[str, Any]) -> int:
    """Be the command, in the child; does not return."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for target, source in ((0, null), (1, said), (2, said)):
            os.dup2(source, target)
        os.environ |= {"TMPDIR": asked["temporary"], "COLUMNS": "200"}
        sys.argv = ["efface", *asked["arguments"]]
        counted = killed_at(asked["within"], asked["step"]) if asked["within"] else list[int]()
        if asked["forked"]:
            workers._context = lambda module: multiprocessing.get_context("fork")  # type: ignore[assignment]
            engines._while_starting = lambda *_: iter(())  # type: ignore[assignment]  # no fork while this one computes
        if asked["limit"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], asked["limit"]))
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        atexit._run_exitfuncs()
        if asked["count"]:
            counted_at = len(counted)  # writing it down is a step, too
            Path(asked["count"]).write_text(str(counted_at))
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def killed_at(within: str, step: int | None) -> list[int]:
    """Count what touches the disk below a folder, and kill this process at one of these steps."""
    counted: list[int] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and any(isinstance(a, str | Path) and str(a).startswith(within) for a in arguments):
            counted.append(1)
            if len(counted) == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return counted


if __name__ == "__main__":
    serve()


# --- in the tests ---------------------------------------------------------------------------------------------------


def parents() -> dict[int, int]:
    """Return the parent of every process that is no zombie."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def below(pid: int) -> set[int]:
    """Return the processes that a process started, directly or not."""
    family, known = {pid}, parents()
    while more := {child for child, parent in known.items() if parent in family} - family:
        family |= more
    return family - {pid}


def waited(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until a condition holds; return whether it came to that."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@dataclasses.dataclass(eq=False)
class Running:
    """A run of the command line.

    Attributes:
        forge: What it was forked by.
        pid: Its process.
        said: File of what it prints.
        ray: Whether its workers are Ray's.
        code: Its exit status once it has ended; negative for the signal that ended it.
    """

    forge: Forge
    pid: int
    said: Path
    ray: bool = False
    code: int | None = None

    def alive(self) -> bool:
        return self.pid in parents()

    def family(self) -> set[int]:
        return below(self.pid)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Wait for its end, and return the exit status."""
        if self.code is None:
            self.code = self.forge.asked({"wait": self.pid})
        return self.code

    @property
    def text(self) -> str:
        return self.said.read_text(errors="replace")


class Forge:
    """The process that forks runs.

    Args:
        folder: For what runs print, and their temporary files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        # Not below the tests' folder: Ray's sockets have names of 107 bytes at most.
        self.folder, self.temporary = folder, Path(tempfile.mkdtemp())
        self.runs = 0
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        environment["RAY_worker_niceness"] = "0"  # its workers would wait for all else that the machine does
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def asked(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *arguments: object,
        limit: int | None = None,
        within: Path | None = None,
        step: int | None = None,
        count: Path | None = None,
        forked: bool = True,
    ) -> Running:
        """Start a run.

        Args:
            arguments: Of the command line.
            limit: Most bytes of any file that it writes.
            within: Folder in which steps are counted.
            step: The one at which it kills itself.
            count: File for the number of steps.
            forked: Whether its own workers are forked from it; otherwise they start as they do for users, which takes
                them an import of PyTorch.
        """
        self.runs += 1
        said = self.folder / f"said-{self.runs}"
        question = {
            "arguments": [str(a) for a in arguments],
            "said": str(said),
            "temporary": str(self.temporary),
            "limit": limit,
            "within": None if within is None else str(within),
            "step": step,
            "forked": forked,
            "count": None if count is None else str(count),
        }
        return Running(self, self.asked(question), said, ray="ray" in arguments)

    def run(self, *arguments: object, **more: Any) -> Running:
        """Start a run and wait for its end."""
        run = self.start(*arguments, **more)
        run.end()
        return run

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()  # it has nothing to finish
        self.process.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)


def drafts(folder: Path) -> list[Path]:
    """Return what is half-made, or an old copy, in a folder and below."""
    return [p for p in folder.rglob(".*") if p.suffix in {PART, OLD, ".trials"} or p.name == MARK]


def copies(forge: Forge) -> list[Path]:
    """Return temporary files that are large enough to hold data, but for Ray's logs, which grow."""
    files = (
        p for p in forge.temporary.rglob("*") if p.is_file() and "logs" not in p.relative_to(forge.temporary).parts
    )
    return [p for p in files if p.stat().st_size > 10_000]


def kill_one(family: set[int], chance: random.Random) -> bool:
    """Kill one of some processes; False if there is none."""
    for pid in chance.sample(sorted(family), len(family)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False
