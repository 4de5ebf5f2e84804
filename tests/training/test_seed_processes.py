"""Processes of seeds: so many at a time, one signal each, and plain words about those that fail."""

import os
import signal

import pytest

from rlstm.training.seed_processes import Ended, Job, Pool

# Runs what the task says; SIGTERM ends it as asking a run to stop does.
WORKER = """
import json, os, signal, sys, time
task, signals = json.loads(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
exec(task["code"])
"""
ANSWER = "print(json.dumps({'steps': 5}))"
WAIT = (
    "open(task['ready'], 'w').close()\nwhile len(signals) < task['patience']: time.sleep(0.01)\n"
    f"{ANSWER}\nsys.exit(130)"
)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Make jobs of pieces of code, one a seed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("rlstm.training.seed_processes._POLL_SECONDS", 0.02)
    (tmp_path / "seed_worker.py").write_text(WORKER)

    def make(*codes, **task):
        return [
            Job(
                seed,
                "seed_worker",
                {"code": code, "ready": str(tmp_path / f"{seed}.ready"), **task},
                tmp_path / f"{seed}.log",
            )
            for seed, code in enumerate(codes)
        ]

    return make


def run(jobs, at_once=1, watch=lambda: None):
    """Return how the jobs ended, what happened in order, and whether a signal asked to stop."""
    ends, story = {}, []

    def ended(end: Ended):
        ends[end.seed] = end
        story.append(f"-{end.seed}")

    told = Pool(jobs, at_once, 1).run(
        began=lambda seed: story.append(f"+{seed}"),
        ended=ended,
        asked=lambda count: story.append(f"signal {count}"),
        watch=watch,
    )
    return ends, story, told


def test_so_many_run_at_a_time_in_order(jobs) -> None:
    ends, story, told = run(jobs(*[ANSWER] * 3), at_once=1)
    assert story == ["+0", "-0", "+1", "-1", "+2", "-2"]
    assert not told
    assert ends[2] == Ended(2, {"steps": 5}, None, stopped=False)
    _, story, _ = run(jobs(f"time.sleep(0.2); {ANSWER}", ANSWER, ANSWER), at_once=2)
    assert story[:2] == ["+0", "+1"]
    assert story.index("+2") > 2


def test_one_that_fails_is_told_and_the_others_go_on(jobs, tmp_path) -> None:
    codes = [
        "print(json.dumps({'error': 'no such env'})); sys.exit(1)",
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        ANSWER,
    ]
    ends, _, told = run(jobs(*codes), at_once=2)
    assert not told
    assert ends[0].error == "no such env"
    assert f"ended with exit code 3; its last words are in {tmp_path / '1.log'}" in str(ends[1].error)
    assert "ended by signal 9, as Linux does where memory is short" in str(ends[2].error)
    assert [ends[seed].stopped for seed in range(4)] == [False] * 4
    assert (ends[0].answer, ends[3].answer, ends[3].error) == (None, {"steps": 5}, None)


def test_what_a_process_says_is_in_its_log(jobs, tmp_path) -> None:
    run(jobs("sys.stderr.write('a word')"))
    assert (tmp_path / "0.log").read_text() == "a word"


def test_a_process_has_one_thread_and_a_group_of_its_own(jobs, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code = "print(json.dumps({'own': os.getpgrp() == os.getpid(), 'threads': os.environ['OMP_NUM_THREADS']}))"
    assert run(jobs(code))[0][0].answer == {"own": True, "threads": "1"}


@pytest.mark.parametrize(("patience", "answer"), [(1, {"steps": 5}), (2, {"steps": 5}), (3, None)])
def test_signals_are_passed_on_and_the_third_ends_all(jobs, tmp_path, patience: int, answer: object) -> None:
    """Those that run are asked, those that wait never begin."""
    sent = []

    def watch():
        if len(list(tmp_path.glob("*.ready"))) == 2 and len(sent) < patience:
            sent.append(signal.raise_signal(signal.SIGINT))

    later = WAIT.replace("print(", "time.sleep(0.15)\nprint(")  # A place is free while it still runs.
    ends, story, told = run(jobs(WAIT, later, WAIT, patience=patience), at_once=2, watch=watch)
    assert told
    assert story[:2] == ["+0", "+1"]
    assert story[2:-2] == [f"signal {count + 1}" for count in range(patience)]
    assert sorted(ends) == [0, 1]
    assert all(end == Ended(end.seed, answer, None, stopped=True) for end in ends.values())


def test_a_signal_comes_once_however_long_it_takes(jobs, tmp_path) -> None:
    code = f"{WAIT.partition('print')[0]}time.sleep(0.2); print(json.dumps({{'signals': len(signals)}})); sys.exit(130)"

    def watch(sent=[]):  # noqa: B006 - it counts.
        if (tmp_path / "0.ready").exists() and not sent:
            sent.append(signal.raise_signal(signal.SIGTERM))

    assert run(jobs(code, patience=1), watch=watch)[0][0].answer == {"signals": 1}


def test_an_error_here_ends_the_processes(jobs, tmp_path) -> None:
    def watch():
        if (tmp_path / "0.ready").exists():
            raise OSError("no space left")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="no space left"):
        run(
            jobs(f"open(task['pid'], 'w').write(str(os.getpid()))\n{WAIT}", patience=1, pid=str(tmp_path / "pid")),
            watch=watch,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_child_notices_that_its_parent_has_gone(monkeypatch) -> None:
    from rlstm.api.one_seed import _stop_without_parent

    sent, given = [], [b"x", b""]
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    _stop_without_parent(lambda descriptor, count: given.pop(0))
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert given == []
