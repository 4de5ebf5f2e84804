"""Measure steps per second of recurrent PPO, beside sb3-contrib's RecurrentPPO, in one run.

    make bench                                              # everything, in its own environment
    python -m scripts.benchmarks.recurrent_ppo --envs 8 64   # some sizes; without sb3-contrib only ours is measured

Task and network: CartPole without velocities, encoder 64, LSTM 128, rollouts of 128 steps, 4 epochs, 4 minibatches.
sb3-contrib has no encoder before its LSTM; its two forms are

* ``shared``: one LSTM on the two raw inputs, heads of 64 behind it (its cheaper form);
* ``default``: one LSTM for the actor and one for the critic, heads of 64.

Neither normalises. Each is given what its users would use: single envs in this process for sb3-contrib, the batched env
here. Both run in the same process with the same threads and flushed denormals. They take turns, and the median of the
turns is printed, because the speed of a shared machine drifts.

The floor of our update is the LSTM's training arithmetic, 24·T·B·H·(H + I) a pass, at the rate of a large matrix
product measured in the same run; the share of it that the update reaches is printed with it.

With both forms of sb3-contrib and all sizes the rows are written to ``scripts/results/recurrent_ppo.csv`` and the table
to docs/speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from rlstm.api.configs import make_config
from rlstm.core.process import prepare_process
from rlstm.training.on_policy import Training
from rlstm.vector.make import resolve_spec
from scripts.experiments.training_run import MACHINE_COLUMNS, machine
from scripts.results_table import ROOT, markdown_table, read_rows, write_between, write_rows

RESULTS = ROOT / "scripts" / "results" / "recurrent_ppo.csv"
BEGIN, END = "<!-- recurrent PPO: written by scripts/benchmarks/recurrent_ppo.py -->", "<!-- end of recurrent PPO -->"
FORMS, SIZES = ("shared", "default"), (8, 16, 64)
COLUMNS = ("num_envs", "ours", *FORMS, "collect_ms", "update_ms", "floor_share", "sb3_contrib", "command")
COLUMNS = (*COLUMNS, *MACHINE_COLUMNS)
NUM_STEPS, EPOCHS, MINIBATCHES, ENCODER, HIDDEN = 128, 4, 4, 64, 128


class PositionsOnly(gym.ObservationWrapper):
    """CartPole's position and angle."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gym.spaces.Box(space.low[[0, 2]], space.high[[0, 2]], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        """Leave out the velocities."""
        return observation[[0, 2]]


def make_ours(num_envs: int) -> Training:
    """Return a run of ours that is ready to update."""
    import rlstm.envs  # noqa: F401 - registers our envs.
    from rlstm.agents.ppo import PPO

    config = make_config(
        "ppo",
        env="rlstm/CartPoleNoVel-v0",
        num_envs=num_envs,
        num_steps=NUM_STEPS,
        update_epochs=EPOCHS,
        num_minibatches=MINIBATCHES,
        encoder_sizes=(ENCODER,),
        hidden_size=HIDDEN,
        normalize_observations=False,
        scale_rewards=False,
        total_steps=10**7,
    )
    return Training(config, PPO, resolve_spec(config.env))


def make_peer(num_envs: int, form: str) -> Callable[[int], None]:
    """Return a function that trains sb3-contrib's RecurrentPPO for so many steps."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs = DummyVecEnv([lambda: PositionsOnly(gym.make("CartPole-v1"))] * num_envs)
    shared = {"shared_lstm": True, "enable_critic_lstm": False} if form == "shared" else {}
    model = RecurrentPPO(
        "MlpLstmPolicy",
        envs,
        n_steps=NUM_STEPS,
        batch_size=num_envs * NUM_STEPS // MINIBATCHES,
        n_epochs=EPOCHS,
        policy_kwargs={"lstm_hidden_size": HIDDEN, "net_arch": [64], **shared},
        device="cpu",
        seed=0,
    )
    return lambda steps: model.learn(steps, reset_num_timesteps=False) and None


def seconds(function: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def gemm_rate(size: int = 1024, repeats: int = 20) -> float:
    """Return the measured rate of a large float32 matrix product in FLOP/s, the best of several."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(lambda: left @ right) for _ in range(repeats))


def measure(num_envs: int, forms: list[str], turns: int, turn_seconds: float) -> dict[str, Any]:
    """Let ours and the peers take turns of about ``turn_seconds``; return the medians."""
    ours = make_ours(num_envs)
    peers = {form: make_peer(num_envs, form) for form in forms}
    rollout = NUM_STEPS * num_envs
    for _ in range(2):
        ours.update()
    for learn in peers.values():
        learn(rollout)
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *forms)}
    collecting, updating = [], []
    for _ in range(turns):
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < turn_seconds:
            phases = ours.update()[1]
            collecting.append(phases["collect"])
            updating.append(phases["update"])
            steps += rollout
        rates["ours"].append(steps / (time.perf_counter() - began))
        for form, learn in peers.items():
            count = max(1, round(turn_seconds * (rates[form][-1] if rates[form] else 1000) / rollout)) * rollout
            rates[form].append(count / seconds(lambda learn=learn, count=count: learn(count)))
    ours.close()
    flops = EPOCHS * 24 * rollout * HIDDEN * (HIDDEN + ENCODER)
    update = statistics.median(updating)
    return {
        "num_envs": num_envs,
        **{name: statistics.median(values) for name, values in rates.items()},
        "collect_ms": statistics.median(collecting) * 1e3,
        "update_ms": update * 1e3,
        "floor_share": flops / update / gemm_rate(),
    }


def table(rows: list[dict[str, str]]) -> str:
    """Return the Markdown table of committed rows."""
    head = ("envs", "rlstm", "sb3-contrib, shared", "", "sb3-contrib, default", "")
    lines = []
    for row in rows:
        cells = [row["num_envs"], f"{float(row['ours']):,.0f}"]
        for form in FORMS:
            cells += [f"{float(row[form]):,.0f}", f"{float(row['ours']) / float(row[form]):.1f}x"]
        lines.append(cells)
    return markdown_table(head, lines)


def main() -> None:
    """Measure and print the table, and write it if nothing is left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn-seconds", type=float, default=3.0)
    parser.add_argument("--num-threads", type=int, default=2)
    arguments = parser.parse_args()
    threads = prepare_process(arguments.num_threads)
    try:
        import sb3_contrib

        forms, peer = list(FORMS), sb3_contrib.__version__
        print(f"sb3-contrib {peer}, torch {torch.__version__}, {threads} threads")
    except ImportError:
        forms, peer = [], ""
        print(f"sb3-contrib is not installed: only ours. torch {torch.__version__}, {threads} threads")
    print(f"matrix product: {gemm_rate() / 1e9:.0f} GFLOP/s")
    print(
        "envs | rlstm steps/s | sb3 shared | ratio | sb3 default | ratio | collect ms | update ms | share of GEMM rate"
    )
    rows = []
    for num_envs in arguments.envs:
        row = measure(num_envs, forms, arguments.turns, arguments.turn_seconds)
        peers = " | ".join(
            f"{row[form]:7.0f} | {row['ours'] / row[form]:4.1f}x" if form in row else "- | -" for form in FORMS
        )
        print(
            f"{num_envs:4d} | {row['ours']:7.0f} | {peers} | {row['collect_ms']:.0f} | {row['update_ms']:.0f} | "
            f"{row['floor_share']:.0%}",
            flush=True,
        )
        rounded = {name: value if name == "num_envs" else f"{value:.4g}" for name, value in row.items()}
        command = "python -m scripts.benchmarks.recurrent_ppo"
        rows.append({**rounded, "sb3_contrib": peer, "command": command, **machine(threads)})
    if forms and tuple(arguments.envs) == SIZES:
        write_rows(RESULTS, COLUMNS, rows)
        write_between(ROOT / "docs" / "speed.md", BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
