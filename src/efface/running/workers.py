"""Processes that take one job after another, never outlive the one that started them, and can be stopped at once.

`concurrent.futures` blames every waiting job when one process dies, and waits for the running ones when it is stopped.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from efface.errors import InputError

__all__ = ["Died", "Worker", "end_if_only_starting", "end_with_parent", "first_answers"]

READY = "ready"

PATIENCE = 5.0
"""Seconds that a process has to clean up before it is killed."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Died:
    """What comes in place of an answer when a process has ended.

    Attributes:
        why: In words.
    """

    why: str


@dataclass(eq=False)
class Worker:
    """One process and the pipe to it.

    Attributes:
        process: Started by `started`.
        pipe: For jobs and answers.
        ready: Whether it has said that it takes jobs.
    """

    process: BaseProcess
    pipe: Connection[Any, Any]
    ready: bool = False

    @classmethod
    def started(cls, answer: Callable[..., Any], work: Any, state: Any, threads: int) -> Worker:
        """Start a process that answers each (job, values) with `answer(work, state, job, values)`.

        The first one of all takes seconds: PyTorch is imported for it.
        """
        end_if_only_starting()
        context = _context(work.__module__)
        ours, theirs = context.Pipe()
        sent = (theirs, answer, work, _ByValue(state), threads)
        process = context.Process(target=_serve, args=sent, daemon=False)
        process.start()
        theirs.close()  # so that the process's end closes the pipe
        worker = cls(process, ours)
        _LIVE.add(worker)
        return worker

    def heard(self) -> bool:
        """Return whether `receive` would return, or raise, at once."""
        return self.pipe.poll()

    def send(self, message: Any) -> None:
        """Give the process a job; if it has died, `receive` says so."""
        try:
            _send(self.pipe, message)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> Any:
        """Return the next answer, `READY` once, or `Died`.

        Raises:
            InputError: The process ended by itself before it was ready.
        """
        try:
            message = _received(self.pipe)
        except (EOFError, ConnectionResetError):
            self.process.join()
            _LIVE.discard(self)
            code = self.process.exitcode
            if not self.ready and code is not None and code > 0:
                raise InputError(
                    "a worker process ended before it took a job: a script without "
                    '`if __name__ == "__main__":` around its calls? What went wrong stands above'
                ) from None
            return Died(_ending(code))
        self.ready = True
        return message

    @staticmethod
    def stop(workers: Sequence[Worker], *, at_once: bool) -> None:
        """End the processes: after the job that they do, or at once, with a few seconds to clean up."""
        for worker in workers:
            if at_once:
                worker.process.terminate()
            else:
                worker.send(None)
        for worker in workers:
            worker.process.join(PATIENCE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
            _LIVE.discard(worker)


_LIVE: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End what is left before multiprocessing's own exit handler waits for it: a generator may not have been closed."""
    Worker.stop(list(_LIVE), at_once=True)


def first_answers(workers: Collection[Worker]) -> Iterator[tuple[Worker, Any]]:
    """Wait for a process to answer or to end, and yield those that have."""
    ready = wait([w.pipe for w in workers])
    for worker in [w for w in workers if w.pipe in ready]:
        answer = worker.receive()
        if answer != READY:
            yield worker, answer


def end_if_only_starting() -> None:
    """End this process if it is one of these that is still being started.

    It runs a script without `if __name__ == "__main__":` then, and would do all of the script's work again.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)  # `receive` says so to the first process; `except Exception` must not catch it


def end_with_parent() -> None:
    """End this process when the one that started it ends, however that happens; call it first thing in a worker.

    The system is asked to (Linux), and a thread watches: it needs no system call, but the interpreter's lock.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _context(module: str) -> Any:
    """Return how processes start: from a server that has imported what they need once, where the system can fork.

    Each process is then there in a moment instead of in seconds, and shares what was imported. The server runs no
    thread of PyTorch's, unlike this process, so that forking it is safe. It goes on until this process ends.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The first training would import lightning_fabric, and PyTorch's compiler with it, for seconds in every process.
    heavy = ["torch", "lightning_fabric", *([] if module == "__main__" else [module])]
    context.set_forkserver_preload(["efface.running.server", *heavy])
    return context


@dataclass(frozen=True)
class _ByValue:
    """What is sent to a process when it starts, as bytes; see `_send`."""

    value: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return _ByValue._of, (pickle.dumps(self.value),)

    @classmethod
    def _of(cls, content: bytes) -> _ByValue:
        return cls(pickle.loads(content))  # noqa: S301 - made by the process that starts this one


def _serve(pipe: Connection[Any, Any], answer: Callable[..., Any], work: Any, state: _ByValue, threads: int) -> None:
    end_with_parent()
    # Ctrl-C reaches every process of a terminal; the one that started this one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that half-written folders vanish
    torch.set_num_threads(threads)
    _send(pipe, READY)
    while True:
        try:
            message = _received(pipe)
        except (EOFError, ConnectionResetError):
            return
        if message is None:
            return
        _send(pipe, answer(work, state.value, *message))


def _send(pipe: Connection[Any, Any], message: Any) -> None:
    """Send a message as bytes.

    A pipe's own `send` would have PyTorch share the tensors' memory instead: what a worker that dies has trained in
    place would be what the next one starts from, and each tensor would keep a file open (no more than 250 can be sent),
    and take of /dev/shm, where a file stays behind if there is no room.
    """
    pipe.send_bytes(pickle.dumps(message))


def _received(pipe: Connection[Any, Any]) -> Any:
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 - made by the other process of this pair


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return f"it ended with status {code}"
    name = signal.Signals(-code).name
    hint = "; the system kills so when memory runs out" if name == "SIGKILL" else ""
    return f"it was ended by {name}{hint}"
