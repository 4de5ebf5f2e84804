"""Clone an expert: a policy that remembers, from 500 recorded walks, and no reward.

    python -m scripts.examples.cloning_tmaze

In a T-maze of 100 cells a sign at the start tells the side of the goal. A scripted expert keeps the sign in mind, walks
east and turns. Its walks are written as ``rlstm record`` writes those of a trained one, and the policy learns to answer
at every cell what the expert did. Then it walks alone, in mazes of other seeds: with its memory, and with its memory
reset at every step. Who can't remember is right in half of the mazes at most.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

import rlstm
import rlstm.envs  # Registers the mazes.
from rlstm.evaluation.demonstrations import Demonstrations, describe_space

CORRIDOR, WALKS, UPDATES, BATCH, TESTS = 100, 500, 1500, 50, 200
NORTH, EAST, SOUTH = 0, 1, 2


def demonstrations() -> Demonstrations:
    """Walk all mazes at once, time first: (T, N, ...) with T = the cells and the turn."""
    envs = gym.make_vec("rlstm/TMaze-v0", WALKS, "vector_entry_point", corridor_length=CORRIDOR)
    seen, actions, rewards = [], [], []
    observations, _ = envs.reset(seed=0)
    remembered = np.where(observations[:, 0] == 0, NORTH, SOUTH)
    for _ in range(CORRIDOR + 1):
        at_junction = (observations == [0, 1, 0]).all(axis=1)
        seen.append(observations)
        actions.append(np.where(at_junction, remembered, EAST))
        observations, reward, _, _, _ = envs.step(actions[-1])
        rewards.append(reward)
    valid = np.ones((len(seen), WALKS), dtype=bool)
    starts = np.zeros_like(valid)
    starts[0] = True
    spaces = describe_space(envs.single_observation_space), describe_space(envs.single_action_space, bounds=True)
    successes = (rewards[-1] > 0).astype(np.float64)
    return Demonstrations(np.stack(seen), np.stack(actions), np.stack(rewards), valid, starts, successes, *spaces)


def main() -> None:
    """Record, clone, and let the clone walk alone."""
    with tempfile.TemporaryDirectory() as folder:
        recorded, began = demonstrations(), time.perf_counter()
        recorded.save(Path(folder) / "walks.safetensors")
        memory = {"hidden_size": 64, "memory_length": 200, "memory_init": "log_spaced"}
        run = {"eval_every": 100 * BATCH * (CORRIDOR + 1), "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        run_dir = rlstm.train(
            "teacher",
            env="rlstm/TMaze-v0",
            env_kwargs={"corridor_length": CORRIDOR},
            demonstrations=f"{folder}/walks.safetensors",
            total_steps=UPDATES * BATCH * (CORRIDOR + 1),
            batch_size=BATCH,
            learning_rate=0.01,
            on_evaluation=lambda step, metrics: metrics["eval/success_rate"] < 1.0,  # Until all turns are right.
            **memory,
            **run,
        ).run_dir
        seconds = time.perf_counter() - began
        play = {"episodes": TESTS, "env_kwargs": {"max_steps": 2 * CORRIDOR}}
        clone = rlstm.evaluate(run_dir, **play)
        forgetful = rlstm.evaluate(run_dir, **play, ablate_memory=True)
    print(f"T-maze of {CORRIDOR} cells, share of right turns in {TESTS} unseen mazes, learnt in {seconds:.0f} s")
    print(f"  expert: {recorded.successes.mean():.3f}")
    print(f"  clone: {clone.success_rate:.3f}")
    print(f"  clone without its memory: {forgetful.success_rate:.3f}")


if __name__ == "__main__":
    main()
