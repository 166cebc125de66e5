"""Many jobs: one by one here, in processes, or over Ray. What a job is, and where its result goes, the caller knows.

Every engine takes the same tasks and yields the same outcomes, in the order in which they end. A job that fails does
not stop the others: its outcome says why, and what waited for it is not begun.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import torch

from efface.errors import InputError
from efface.running.extras import import_ray
from efface.running.threads import threads as computing_with
from efface.running.workers import Died, Worker, end_if_only_starting, first_answers

__all__ = [
    "START_UP",
    "Engine",
    "Failure",
    "Outcome",
    "Task",
    "Work",
    "cores",
    "in_processes",
    "one_by_one",
    "over_ray",
]

Engine = Literal["local", "ray"]

Work = Callable[[Any, Any, Sequence[Any]], Any]
"""From (state, job, values of the tasks waited for) to a value; a function of a module, so that processes find it."""

TRIES = 2
"""How often a job is begun whose worker dies."""

START_UP = 15.0
"""Seconds of work one after another below which processes do not pay: they first import torch."""

CONNECTING = 10.0
"""Seconds within which a cluster must answer."""


@dataclass(frozen=True)
class Task:
    """One job and what must be done before it.

    Attributes:
        key: Its name, unique among the tasks.
        job: What the work is called with.
        after: Keys of the tasks whose values it is called with, in this order.
    """

    key: str
    job: Any
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a job has no value.

    Attributes:
        error: What was raised; None if the worker died, or if what it raised cannot be sent.
        words: In one line, with the kind of error where that helps.
        trace: Where it was raised, for programmers.
        died: Whether the worker died, each time that the job was tried.
    """

    error: Exception | None
    words: str
    trace: str = ""
    died: bool = False

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Describe an exception; expected errors speak for themselves, others are named by their kind."""
        text = str(error).strip()
        words = text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
            words = f"out of memory ({words.splitlines()[0]})"
        return cls(error, words, "".join(traceback.format_exception(error)))

    def raised(self) -> NoReturn:
        """Raise what was raised in the job.

        Raises:
            Exception: The job's own.
            RuntimeError: That cannot be sent between processes; its words and its traceback.
        """
        if self.error is not None:
            raise self.error
        raise RuntimeError(f"{self.words}\n{self.trace}".strip())


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        key: Of the task.
        value: What the work returned.
        failure: Why there is no value; None if all went well.
    """

    key: str
    value: Any = None
    failure: Failure | None = None

    def result(self, kept: str) -> Any:
        """Return what the task made.

        Args:
            kept: What becomes of the finished tasks when this one failed, for the message.

        Raises:
            InputError: Its process died, each time that it was tried.
            Exception: What was raised in it.
        """
        if self.failure is not None and self.failure.died:
            raise InputError(f"{self.key}: {self.failure.words}. Use fewer workers if memory is short; {kept}")
        if self.failure is not None:
            self.failure.raised()
        return self.value


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_by_one(work: Work, tasks: Sequence[Task], state: Any) -> Iterator[Outcome]:
    """Do the jobs here, one after another, with all threads; see the module for what is yielded."""
    schedule = _Schedule(tasks)
    while schedule.waiting:
        yield from schedule.given_up()
        if (task := schedule.next()) is not None:
            yield schedule.ended(task, attempted(work, state, task.job, schedule.values(task)))


def in_processes(
    work: Work, tasks: Sequence[Task], state: Any, workers: int, *, threads: int = 1, meanwhile: Any = None
) -> Iterator[Outcome]:
    """Do the jobs in processes of their own, which end with this one, whatever ends it.

    A job whose process dies is tried once more in a new one.

    Args:
        work: Found by its module and name in each process.
        tasks: What to do.
        state: Sent to each process once.
        workers: Most processes.
        threads: PyTorch's threads in each.
        meanwhile: State with which this process does jobs, one after another, until the first of the others is there;
            None: it does none. It shares nothing that changes with `state`, which is being sent; what ends this
            process then ends everything.

    Raises:
        InputError: Processes die before they take a job: a script without `if __name__ == "__main__":`.
    """
    schedule, busy, idle = _Schedule(tasks), dict[Worker, Task](), list[Worker]()
    tries: dict[str, int] = {}

    def started() -> Worker:
        return Worker.started(_in_process, work, state, threads)

    def here(task: Task) -> Outcome:
        with computing_with(threads):
            return schedule.ended(task, attempted(work, meanwhile, task.job, schedule.values(task)))

    with ThreadPoolExecutor(1) as starter:  # until the processes have ended, or the system would end them with it
        try:
            if meanwhile is not None:
                yield from _while_starting(idle, starter, started, min(workers, len(tasks)), here, schedule)
            while schedule.waiting or busy:
                yield from schedule.given_up()
                while len(busy) < workers and (task := schedule.next()) is not None:
                    worker = idle.pop() if idle else started()
                    tries[task.key] = tries.get(task.key, 0) + 1
                    worker.send((task.job, schedule.values(task)))
                    busy[worker] = task
                for worker, answer in first_answers(busy) if busy else ():  # all that was left may have been given up
                    task = busy.pop(worker)
                    if not isinstance(answer, Died):
                        idle.append(worker)
                        yield schedule.ended(task, answer)
                    elif tries[task.key] < TRIES:
                        schedule.again(task)
                    else:
                        yield schedule.ended(
                            task, Failure(None, f"its process died {TRIES} times: {answer.why}", died=True)
                        )
        finally:
            Worker.stop([*idle, *busy], at_once=bool(busy))


def _while_starting(
    idle: list[Worker],
    starter: ThreadPoolExecutor,
    started: Callable[[], Worker],
    count: int,
    here: Callable[[Task], Outcome],
    schedule: _Schedule,
) -> Iterator[Outcome]:
    """Do jobs here until the first of `count` processes takes some; all of them are in `idle` then, or on the way out.

    A thread starts them: only on some systems does that return before they are there.
    """
    end_if_only_starting()

    def start() -> None:
        for _ in range(count):
            idle.append(started())  # noqa: PERF401 - those that did start are there if another cannot

    starting = starter.submit(start)
    try:
        while not (starting.done() and (starting.exception() or any(worker.heard() for worker in idle))):
            if (task := schedule.next()) is None:
                break
            yield here(task)
    finally:
        starting.exception()  # waits: what is started is in `idle`, so that it can be stopped
    starting.result()


def over_ray(
    work: Work, tasks: Sequence[Task], state: Any, workers: int, *, gpu: bool = False, address: str | None = None
) -> Iterator[Outcome]:
    """Do the jobs on a Ray cluster; values come back here, and go from task to task within the cluster.

    Each job takes one CPU core, or one GPU. One whose worker dies is tried once more, by Ray.

    Args:
        work: Efface, and the module of this function, must be installed on the nodes.
        tasks: What to do.
        state: Sent to each node once.
        workers: Most jobs at once.
        gpu: Whether each needs a GPU.
        address: Of a running cluster (`auto`, `HOST:PORT`, `ray://...`); the one that is connected, or a local one, if
            none is given.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    ray = import_ray()
    started = not ray.is_initialized()
    if started:
        _connect(ray, address)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=int(gpu), max_retries=TRIES - 1)(_remote)
        schedule, held = _Schedule(tasks), ray.put(state)
        pending: dict[Any, Task] = {}
        while schedule.waiting or pending:
            yield from schedule.given_up()
            while len(pending) < workers and (task := schedule.next()) is not None:
                pending[remote.remote(work, held, not gpu, task.job, *schedule.values(task))] = task
            if not pending:
                continue
            (first,), _ = ray.wait(list(pending), num_returns=1)
            task = pending.pop(first)
            try:
                result = ray.get(first)
            except ray.exceptions.RayError as error:
                result = Failure(None, f"its worker died {TRIES} times: {_first_line(error)}", died=True)
            # What waits for this value gets the reference, so that it need not be sent again.
            yield schedule.ended(task, result, first)
    finally:
        if started:
            ray.shutdown()


@dataclass
class _Value:
    """What a job returned, told from a failure."""

    value: Any


def attempted(work: Work, state: Any, job: Any, values: Sequence[Any]) -> _Value | Failure:
    """Return what the work returns, or its failure, in a form that can be sent."""
    try:
        return _Value(work(state, job, values))
    except Exception as error:  # noqa: BLE001 - it becomes the task's outcome, with its traceback
        return Failure.of(error)


def sendable(result: _Value | Failure) -> _Value | Failure:
    """Return the result without an exception that does not survive pickling."""
    if isinstance(result, Failure) and result.error is not None:
        try:
            pickle.loads(pickle.dumps(result.error))  # noqa: S301 - made here
        except Exception:  # noqa: BLE001 - whatever a class's own pickling raises, its words are kept
            return Failure(None, result.words, result.trace)
    return result


def _in_process(work: Work, state: Any, job: Any, values: Sequence[Any]) -> _Value | Failure:
    return sendable(attempted(work, state, job, values))


def _remote(work: Work, state: Any, single: bool, job: Any, *values: Any) -> _Value | Failure:
    if single:
        torch.set_num_threads(1)
    return sendable(attempted(work, state, job, [v.value for v in values]))


def _connect(ray: Any, address: str | None) -> None:
    try:
        if address is not None and (found := re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address)):
            # Ray itself goes on trying for minutes.
            socket.create_connection((found[1], int(found[2])), timeout=CONNECTING).close()
        # Of its own accord, Ray would join a cluster that it finds on this machine.
        chosen = address or os.environ.get("RAY_ADDRESS", "local")
        with _own_signals():
            ray.init(address=chosen, log_to_driver=False, configure_logging=False, include_dashboard=False)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:  # no such host, no such port, nothing there
        where = "a local Ray cluster cannot be started" if address is None else f"no Ray cluster answers at {address!r}"
        raise InputError(
            f"{where}: {_first_line(error)}. Start one with `ray start --head`, or use engine local"
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does on SIGTERM: Ray would end it with exit status 1."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass
class _Schedule:
    """Which tasks may begin: in the order given, as soon as what they wait for is done."""

    tasks: Sequence[Task]
    waiting: dict[str, Task] = field(init=False)
    done: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = {task.key: task for task in self.tasks}
        known: set[str] = set()
        for task in self.tasks:
            if task.key in known or not set(task.after) <= known:
                raise ValueError(f"task {task.key!r} is given twice, or stands before one that it waits for")
            known.add(task.key)

    def next(self) -> Task | None:
        """Take the first task that may begin."""
        ready = next((t for t in self.waiting.values() if set(t.after) <= self.done.keys()), None)
        return None if ready is None else self.waiting.pop(ready.key)

    def values(self, task: Task) -> list[Any]:
        """Return the values that a task is called with."""
        return [self.done[key] for key in task.after]

    def again(self, task: Task) -> None:
        """Put a task back, before all others."""
        self.waiting = {task.key: task} | self.waiting

    def ended(self, task: Task, result: _Value | Failure, value: Any = None) -> Outcome:
        """Take note of a result; `value` stands for it where others are called with it."""
        if isinstance(result, Failure):
            self.failed[task.key] = result
            return Outcome(task.key, failure=result)
        self.done[task.key] = result.value if value is None else value
        return Outcome(task.key, result.value)

    def given_up(self) -> Iterator[Outcome]:
        """Yield the tasks that will never begin, because one that they wait for failed."""
        while lost := [t for t in self.waiting.values() if self.failed.keys() & set(t.after)]:
            for task in lost:
                first = next(key for key in task.after if key in self.failed)
                cause = self.failed[first]
                yield self.ended(
                    self.waiting.pop(task.key), Failure(None, f"{first} failed: {cause.words}", cause.trace)
                )
