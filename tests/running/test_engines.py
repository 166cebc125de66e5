"""Engines: the same outcomes from each, what fails stops nothing else, and no worker outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch

from efface.errors import InputError
from efface.running.engines import Failure, Task, in_processes, one_by_one, over_ray
from efface.running.workers import Worker


def doubled(state, job, values):
    """Return state + job + the values waited for; or do what the job says."""
    if job == "refuse":
        raise InputError("this cannot be done")
    if job == "break":
        raise KeyError("broken")
    if isinstance(job, tuple) and job[0] == "die":  # ("die", FILE, TIMES)
        file = Path(job[1])
        file.write_text((file.read_text() if file.exists() else "") + "x")
        if len(file.read_text()) <= job[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return 100
    return state + job + sum(values)


def graph(*jobs) -> list[Task]:
    return [Task("a", 1), Task("b", 2, ("a",)), Task("c", 3, ("a", "b")), *jobs]


EXPECTED = {"a": 11, "b": 23, "c": 10 + 3 + 11 + 23}


def values(outcomes) -> dict:
    return {o.key: o.value if o.failure is None else o.failure for o in outcomes}


def test_each_job_gets_the_values_of_what_it_waited_for():
    assert values(one_by_one(doubled, graph(), 10)) == EXPECTED
    assert values(in_processes(doubled, graph(), 10, 2)) == EXPECTED


def test_what_fails_stops_only_what_waits_for_it():
    bad = [Task("no", "refuse"), Task("never", 1, ("a", "no")), Task("after", 1, ("never",)), Task("bad", "break")]
    for outcomes in (one_by_one(doubled, graph(*bad), 10), in_processes(doubled, graph(*bad), 10, 1)):
        found = values(outcomes)
        assert {k: v for k, v in found.items() if not isinstance(v, Failure)} == EXPECTED
        assert found["no"].words == "this cannot be done"
        assert isinstance(found["no"].error, InputError)
        assert found["never"].words == "no failed: this cannot be done"
        assert found["after"].words.endswith("this cannot be done")
        assert found["bad"].words == "KeyError: 'broken'"
        assert "test_engines.py" in found["bad"].trace
        with pytest.raises(KeyError):
            found["bad"].raised()


def test_the_last_job_may_fail_with_all_that_waits_for_it():
    tasks = [Task("no", "refuse"), Task("never", 1, ("no",))]
    for outcomes in (one_by_one(doubled, tasks, 10), in_processes(doubled, tasks, 10, 1)):
        found = values(outcomes)
        assert [found[k].words for k in ("no", "never")] == ["this cannot be done", "no failed: this cannot be done"]


def grown(state, job, values):
    return torch.empty(2**50)


def test_running_out_of_memory_is_said():
    (outcome,) = one_by_one(grown, [Task("a", 1)], None)
    assert outcome.failure.words.startswith("out of memory (RuntimeError: ")
    assert Failure.of(MemoryError("no room")).words == "out of memory (MemoryError: no room)"
    assert Failure.of(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")).words.startswith("out of mem")


def test_a_job_whose_process_dies_is_tried_once_more_and_no_other_is_blamed(tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice"
    jobs = [Task("once", ("die", once, 1)), Task("twice", ("die", twice, 2))]
    found = values(in_processes(doubled, graph(*jobs), 10, 2))
    assert found.pop("once") == 100
    failure = found.pop("twice")
    assert failure.died
    assert "SIGKILL; the system kills so when memory runs out" in failure.words
    assert (len(once.read_text()), len(twice.read_text())) == (2, 2)
    assert found == EXPECTED


def changed(state, job, values):
    """Change a tensor in place, as training does, and die the first time; return what it was."""
    tensor, tried = job
    before = tensor.clone()
    tensor.add_(1)
    if not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return before


def test_a_second_try_starts_from_what_was_sent_and_not_from_what_the_first_made_of_it(tmp_path):
    tensor = torch.zeros(3)
    (outcome,) = in_processes(changed, [Task("a", (tensor, tmp_path / "tried"))], None, 1)
    assert (tmp_path / "tried").exists()
    assert outcome.value.tolist() == tensor.tolist() == [0, 0, 0]


def spoilt(state, job, values):
    """Change what all jobs start from; return what it was."""
    before = [tensor.clone() for tensor in state]
    for tensor in state:
        tensor.add_(1)
    return before


def test_the_state_is_copied_to_each_process_however_many_tensors_it_has_and_takes_nothing_of_shared_memory():
    state = [torch.zeros(1) for _ in range(300)]  # more than a process can be sent open files
    for outcome in in_processes(spoilt, [Task("a", 1)], state, 1):
        assert outcome.value == state
    assert not any(tensor.is_shared() for tensor in state)
    assert not any(tensor.any() for tensor in state)


def ones(state, job, values):
    return [torch.ones(2) for _ in range(job)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_values_of_many_tensors_keep_no_file_open():
    before = len(list(Path("/proc/self/fd").iterdir()))
    (outcome,) = in_processes(ones, [Task("a", 200)], None, 1)
    assert len(outcome.value) == 200
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 50


COUNT = 1000
SECOND = threading.Event()


def where(state, job, values):
    """Return the process and its threads; the second job lets other processes start, which are faster than this one."""
    if job == 1:
        SECOND.set()
    if os.getpid() == state:
        time.sleep(0.1)
    return os.getpid(), torch.get_num_threads()


@pytest.mark.seconds
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_this_process_does_jobs_until_the_others_are_there(method, monkeypatch):
    """Whatever the system's way of starting processes; with spawn, starting one returns before it is there.

    The thread that starts them has nothing more to do when the first is there: it must not take that one with it.
    """
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: [method])
    started, before, there = Worker.started, torch.get_num_threads(), []

    def late(*arguments):
        assert SECOND.wait(60)
        there.append(started(*arguments))
        assert there[0].pipe.poll(60)
        return there[-1]

    list(in_processes(where, [Task("a", 0)], None, 1))  # a server, if there is one, imports before
    SECOND.clear()
    monkeypatch.setattr(Worker, "started", late)
    tasks = [Task(str(k), k, ("0",) if k == COUNT - 1 else ()) for k in range(COUNT)]
    outcomes = list(in_processes(where, tasks, os.getpid(), 2, threads=2, meanwhile=os.getpid()))
    assert sorted(o.key for o in outcomes) == sorted(t.key for t in tasks)
    assert [o.key for o in outcomes[:2]] == ["0", "1"]
    doing = [o.value[0] for o in outcomes]
    here = doing.count(os.getpid())
    assert set(doing[:here]) == {os.getpid()}  # first this process, and then the others
    assert here >= 2
    assert set(doing[here:]) <= {worker.process.pid for worker in there}
    assert len(there) == 2  # none died and was replaced
    assert {o.value[1] for o in outcomes} == {2}
    assert torch.get_num_threads() == before


def test_all_jobs_may_be_done_before_another_process_is_there():
    assert values(in_processes(doubled, graph(), 10, 2, meanwhile=10)) == EXPECTED


def test_what_fails_here_stops_only_what_waits_for_it():
    bad = [Task("no", "refuse"), Task("never", 1, ("a", "no")), Task("bad", "break")]
    found = values(in_processes(doubled, graph(*bad), 10, 1, meanwhile=10))
    assert {k: v for k, v in found.items() if not isinstance(v, Failure)} == EXPECTED
    assert [found[k].words for k in ("no", "bad")] == ["this cannot be done", "KeyError: 'broken'"]
    assert found["never"].words == "no failed: this cannot be done"


def test_processes_that_cannot_start_are_said_and_stop_the_work():
    done = []
    outcomes = in_processes(slow, [Task(str(k), k) for k in range(COUNT)], lambda: None, 2, meanwhile=0)
    with pytest.raises((pickle.PicklingError, AttributeError), match=r"lambda|local object"):
        done.extend(outcomes)
    assert len(done) < COUNT


def slow(state, job, values):
    time.sleep(0.1)


def test_tasks_that_can_never_begin_are_refused():
    with pytest.raises(ValueError, match="before one"):
        list(one_by_one(doubled, [Task("a", 1, ("b",)), Task("b", 1)], 0))
    with pytest.raises(ValueError, match="twice"):
        list(one_by_one(doubled, [Task("a", 1), Task("a", 2)], 0))


SLEEPER = textwrap.dedent(
    """
    import os, signal, sys, time
    from pathlib import Path
    from efface.running.engines import Task, in_processes

    def work(state, job, values):
        Path(state, f"{job}.pid").write_text(str(os.getpid()))
        try:
            time.sleep(60)
        finally:
            Path(state, f"{job}.cleaned").touch()

    if __name__ == "__main__":
        # Tests that were started in a shell's background inherit a SIGINT that is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        list(in_processes(work, [Task("0", 0), Task("1", 1)], sys.argv[1], 2))
    """
)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def waited(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("meanwhile", [None, 1])
def test_a_script_without_a_guard_is_not_run_again_by_its_workers(tmp_path, meanwhile):
    """Not even where it goes on after whatever goes wrong."""
    lines = [
        "import sys",
        "from pathlib import Path",
        "from efface.running.engines import Task, in_processes",
        "import time",
        "def work(state, job, values):",
        "    time.sleep(0.1)",
        "    return job",
        "try:",
        f"    list(in_processes(work, [Task(str(k), k) for k in range(1000)], None, 2, meanwhile={meanwhile}))",
        "except Exception as error:",
        "    print(error)",
        "with Path(sys.argv[1]).open('a') as file:",
        "    file.write('x')",
    ]
    (tmp_path / "script.py").write_text("\n".join(lines))
    command = [sys.executable, tmp_path / "script.py", tmp_path / "ends"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "a script without" in done.stdout
    assert (tmp_path / "ends").read_text() == "x"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_no_worker_outlives_its_parent(tmp_path, sent):
    script = tmp_path / "script.py"
    script.write_text(SLEEPER)
    parent = subprocess.Popen([sys.executable, script, tmp_path], stderr=subprocess.DEVNULL)
    assert waited(lambda: len([p for p in tmp_path.glob("*.pid") if p.read_text()]) == 2, 300)
    workers = [int(p.read_text()) for p in tmp_path.glob("*.pid")]
    parent.send_signal(sent)
    parent.wait(20)
    assert waited(lambda: not any(map(alive, workers)), 5)
    if sent == signal.SIGINT:  # there was time to unwind
        assert len(list(tmp_path.glob("*.cleaned"))) == 2


SERVER = """
import multiprocessing, multiprocessing.forkserver, time
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["efface.running.server", "slow"])
multiprocessing.forkserver.ensure_running()
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end it")
def test_the_server_of_workers_ends_with_its_parent_while_it_still_imports(tmp_path):
    (tmp_path / "slow.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    found = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen([sys.executable, "-c", SERVER], env=os.environ | {"PYTHONPATH": found})
    assert waited(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    parent.kill()
    parent.wait(20)
    assert waited(lambda: not alive(int((tmp_path / "pid").read_text())), 20)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:6379", "127.0.0.1:99999", "nonsense"])
def test_an_address_where_no_cluster_answers_is_said_at_once(address):
    began = time.monotonic()
    with pytest.raises(InputError, match=f"no Ray cluster answers at '{address}'.*ray start --head"):
        list(over_ray(doubled, graph(), 10, 2, address=address))
    assert time.monotonic() - began < 60  # Ray itself would try for minutes
