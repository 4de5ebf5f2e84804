"""No worker can hang or lose a run: one that dies, is stopped or can't be started is named, and orphans end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlstm.envs  # noqa: F401 - registers them.
from rlstm.core import child_processes
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import interruptible
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.evolution.workers import Workers
from rlstm.vector import workers
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv
from tests import kit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")

STEP = np.zeros(2, dtype=np.int64)


class Scripted(kit.ScriptedEnv):
    """Env 1 does at its step of index 1 what it is told to."""

    act: Callable[[], Any] = staticmethod(lambda: None)

    def step(self, action: Any) -> Any:
        if self.t == 1 and self.lane == 1:
            type(self).act()
        return super().step(action)


def asynchronous(act: Callable[[], Any] = lambda: None, num_envs: int = 2) -> VectorEnvs:
    env_type = type("Acting", (Scripted,), {"act": staticmethod(act)})
    functions = [lambda lane=lane: SubEnv(env_type("....", lane), lane) for lane in range(num_envs)]
    first = functions[0]()
    spaces = {"observation_space": first.observation_space, "action_space": first.action_space}
    return VectorEnvs(workers.WorkerEnvs(functions, **spaces), "async", "")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_all_end(pids: list[int], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in pids if lives(pid)] == []


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_worker_killed_from_outside_is_named_and_nothing_hangs(moment: str) -> None:
    envs = asynchronous((lambda: os.kill(os.getpid(), signal.SIGKILL)) if moment == "during" else lambda: None)
    pids = [process.pid for process in envs.envs.processes]
    envs.reset([0, 0])
    envs.step(STEP)
    if moment == "before":
        os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(
        EnvironmentFailure, match=r"of env 1 ended by signal 9 \(SIGKILL.*memory is short.* at its step 2"
    ):
        envs.step(STEP)
    assert_all_end(pids, seconds=0.1)
    with pytest.raises(EnvironmentFailure, match="env 1 ended by signal 9"):
        envs.step(STEP)
    envs.close()


def test_what_was_learnt_can_be_saved_though_a_worker_died_in_between() -> None:
    config = EnvConfig(env="rlstm/TMaze-v0", num_envs=2, vectorization="async")
    envs = make(resolve_spec(config), config, MemoryConfig())
    envs.reset([0, 1])
    assert envs.get_state() is not None
    os.kill(envs.envs.processes[1].pid, signal.SIGKILL)
    assert envs.get_state() is None
    with pytest.raises(EnvironmentFailure, match="env 1 ended by signal 9"):
        envs.step(STEP)


def test_a_stopped_worker_does_not_block_closing() -> None:
    envs = asynchronous()
    envs.reset([0, 0])
    pids = [process.pid for process in envs.envs.processes]
    os.kill(pids[0], signal.SIGSTOP)
    began = time.monotonic()
    envs.close()
    assert time.monotonic() - began < 2
    assert_all_end(pids, seconds=0.1)


def test_a_stopped_worker_does_not_block_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_processes, "_STOPPED_SECONDS", 0.05)
    monkeypatch.setattr(workers, "_TICK_MILLISECONDS", 50)
    envs = asynchronous(stop_self)
    envs.reset([0, 0])
    envs.step(STEP)
    with interruptible():
        ask_to_stop()
        with pytest.raises(EnvironmentFailure, match=r"env 1 is stopped .* and does not answer at its step 2"):
            envs.step(STEP)
    assert not any(process.is_alive() for process in envs.envs.processes)


def test_a_silent_worker_is_waited_for_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_TICK_MILLISECONDS", 50)
    monkeypatch.setattr(workers, "_TOLD_SECONDS", 0.1)
    with closing(asynchronous(lambda: time.sleep(0.4))) as envs:
        envs.reset([0, 0])
        envs.step(STEP)
        with pytest.warns(UserWarning, match="env 1 has not answered for .* still waiting") as told:
            assert envs.step(STEP).rewards.shape == (2,)
    assert len(told) == 1


def test_envs_that_take_too_long_to_close_are_killed_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_CLOSING_SECONDS", 0.2)
    monkeypatch.setattr(Scripted, "close", lambda self: time.sleep(60 * self.lane))
    envs = asynchronous()
    with pytest.warns(UserWarning, match="of these envs did not end within .* killed: 1"):
        envs.close()


@pytest.mark.parametrize("act", [lambda: sys.exit(3), lambda: sys.exit("no licence")])
def test_an_env_that_exits_fails_by_name(act: Callable[[], Any]) -> None:
    envs = asynchronous(act)
    envs.reset([0, 0])
    envs.step(STEP)
    with pytest.raises(EnvironmentFailure, match=r"Env 1, its step 2: step raised: SystemExit: (3|no licence)"):
        envs.step(STEP)


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_that_an_env_raises_is_ctrl_c() -> None:
    envs = asynchronous(press_ctrl_c)
    envs.reset([0, 0])
    envs.step(STEP)
    with pytest.raises(KeyboardInterrupt):
        envs.step(STEP)
    assert not any(process.is_alive() for process in envs.envs.processes)


def test_what_a_group_of_processes_is_sent_is_left_to_the_main_process() -> None:
    with closing(asynchronous()) as envs:
        envs.reset([0, 0])
        for process in envs.envs.processes:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(process.pid, number)
        assert envs.step(STEP).rewards.shape == (2,)


def test_envs_must_be_alike() -> None:
    class Wide(kit.ScriptedEnv):
        action_space = gym.spaces.Discrete(4)

    functions = [lambda kind=kind: SubEnv(kind("...."), 0) for kind in (kit.ScriptedEnv, Wide)]
    first = functions[0]()
    with pytest.raises(EnvironmentFailure, match="The envs differ: the actions of env 1"):
        workers.WorkerEnvs(functions, observation_space=first.observation_space, action_space=first.action_space)


def run(program: str, **options: Any) -> subprocess.Popen[str]:
    head = """
        import os, resource, signal, sys, time
        import numpy as np
        import rlstm.envs
        from rlstm.core.memory_boundaries import MemoryConfig
        from rlstm.vector.config import EnvConfig
        from rlstm.vector.make import make, resolve_spec
        def lanes(num_envs, env="rlstm/TMaze-v0"):
            config = EnvConfig(env=env, num_envs=num_envs, vectorization="async")
            return make(resolve_spec(config), config, MemoryConfig())
    """
    text = textwrap.dedent(head) + textwrap.dedent(program)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", text], **pipes, **options)


def test_too_few_open_files_are_told_and_a_program_that_closes_nothing_ends() -> None:
    program = run("""
        import multiprocessing
        envs = lanes(2)
        envs.reset([0, 1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
        try:
            lanes(64)
        except rlstm.core.errors.EnvironmentFailure as error:
            print(error, len(multiprocessing.active_children()))
    """)
    out, err = program.communicate(timeout=60)
    assert "could not be started: Too many open files (the limit is ulimit -n, open files: 80)" in out
    assert "of 64" in out
    assert out.endswith("--vectorization sync. 2\n")
    assert err == ""
    assert program.returncode == 0


ORPHANS = """
    first, second = lanes(2), lanes(2)
    first.reset([0, 1])
    second.reset([0, 1])
    os.kill(second.envs.processes[0].pid, signal.SIGSTOP)
    print(*(process.pid for envs in (first, second) for process in envs.envs.processes), flush=True)
    while True:
        first.step(np.zeros(2, dtype=np.int64))
"""


def test_a_worker_sees_the_end_of_its_pipe_though_others_were_started_later() -> None:
    """Forked workers begin with copies of all pipes of their main process."""
    with closing(asynchronous()) as envs, closing(asynchronous()):
        envs.envs._workers[0]._pipe.close()
        envs.envs._workers[0].process.join(5)
        assert envs.envs._workers[0].process.exitcode == 0


def test_workers_end_quietly_when_their_main_process_is_killed() -> None:
    program = run(ORPHANS)
    assert program.stdout is not None
    pids = [int(word) for word in program.stdout.readline().split()]
    assert len(pids) == 4
    program.kill()
    assert_all_end(pids)
    assert program.communicate(timeout=10)[1] == ""


# The workers of evolution.


def compute(action: str) -> int:
    if action == "stop":
        stop_self()
    if action == "exit":
        sys.exit(3)
    if action == "ctrl-c":
        raise KeyboardInterrupt
    if action == "die":
        os._exit(7)
    if action == "sleep":
        time.sleep(60)
    return os.getpid()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of evolution that start in no time."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda name: context)


@pytest.mark.usefixtures("forked")
def test_workers_of_evolution_neither_block_ctrl_c_nor_hide_what_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_processes, "_STOPPED_SECONDS", 0.05)
    with closing(Workers(2, compute)) as pool:
        pids = pool.map([("go",), ("go",)])
        with pytest.raises(EnvironmentFailure, match="SystemExit: 3"):
            pool.map([("exit",)])
        with pytest.raises(KeyboardInterrupt):
            pool.map([("ctrl-c",)])
        with interruptible():
            ask_to_stop()
            with pytest.raises(EnvironmentFailure, match=r"rlstm worker 0 \(process \d+\) is stopped"):
                pool.map([("stop",)])
    assert_all_end(pids, seconds=0.1)


@pytest.mark.usefixtures("forked")
@pytest.mark.filterwarnings("ignore:rlstm worker 0 died:UserWarning")
def test_workers_that_die_again_and_again_end_the_run_by_name() -> None:
    with (
        closing(Workers(1, compute)) as pool,
        pytest.raises(EnvironmentFailure, match=r"rlstm worker 0 died with the exit code 7 .* Try --workers 1"),
    ):
        pool.map([("die",)])


@pytest.mark.slow
def test_workers_of_evolution_end_quietly_when_their_main_process_is_killed() -> None:
    program = run(
        """
        import multiprocessing
        from rlstm.evolution.workers import Workers
        context = multiprocessing.get_context("fork")  # They start in no time.
        multiprocessing.get_context = lambda name: context
        from tests.vector.test_workers import compute
        pool = Workers(2, compute)
        print(*{*pool.map([("go",)] * 8)}, *(worker.process.pid for worker in pool._workers), flush=True)
        pool.map([("sleep",), ("stop",)])
    """
    )
    assert program.stdout is not None
    pids = [int(word) for word in program.stdout.readline().split()]
    assert pids
    time.sleep(0.3)
    program.kill()
    assert_all_end(pids)
    assert program.communicate(timeout=10)[1] == ""
