"""Clone a controller that sees more than the robot will: balance a pole whose velocities no sensor tells.

    python -m scripts.examples.cloning_pole

The expert is a linear rule of all four numbers of CartPole. Written down is what it would do, but with two of them:
position and angle. Some of its actions are replaced by random ones, so that mistakes and their mending are recorded
too. The clone has to find the velocities in what it saw before. It balances alone, beside the expert and a clone
without a memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np

import rlstm
from rlstm.evaluation.demonstrations import Demonstrations, describe_space

ENV, LENGTH, EPISODES, NOISE, BATCH = "CartPole-v1", 200, 100, 0.2, 20
RULE = np.array([0.1, 0.4, 4.0, 1.0])  # Of position, velocity, angle and angular velocity.
SEEN = [0, 2]


def play(env, rng, length, noise):
    """Return what an episode showed (T, 4), what the expert would have done (T,), and whether it went on to its end."""
    seen, actions = [env.reset(seed=int(rng.integers(2**31)))[0]], []
    for _ in range(length):
        actions.append(int(seen[-1] @ RULE > 0))
        done = int(rng.integers(2)) if rng.uniform() < noise else actions[-1]
        observation, _, fell, _, _ = env.step(done)
        if fell:
            break
        seen.append(observation)
    return np.array(seen[: len(actions)]), np.array(actions)


def demonstrations(rng):
    """Return noisy episodes of one length, time first."""
    env = gym.make(ENV)
    played = [play(env, rng, LENGTH, NOISE) for _ in range(2 * EPISODES)]
    whole = [one for one in played if len(one[1]) == LENGTH][:EPISODES]
    seen, actions = (np.stack(arrays, axis=1) for arrays in zip(*whole, strict=True))
    valid = np.ones(actions.shape, dtype=bool)
    starts = np.arange(LENGTH)[:, None].repeat(len(whole), axis=1) == 0
    masked = gym.spaces.Box(-np.inf, np.inf, (len(SEEN),), np.float32)
    spaces = describe_space(masked), describe_space(env.action_space, bounds=True)
    unknown = np.full(len(whole), np.nan)
    return Demonstrations(seen[..., SEEN], actions, np.ones(actions.shape), valid, starts, unknown, *spaces)


def main() -> None:
    rng = np.random.default_rng(0)
    returns = {"expert": np.mean([len(play(gym.make(ENV), rng, 500, 0.0)[1]) for _ in range(20)])}
    with tempfile.TemporaryDirectory() as folder:
        recorded = demonstrations(rng)
        recorded.save(Path(folder) / "pole.safetensors")
        for name, cell in {"clone with a memory": "lstm", "clone without one": "none"}.items():
            settings = {"cell": cell, "batch_size": BATCH, "learning_rate": 0.01, "anneal_lr": True}
            run = {"eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/{cell}"}
            run_dir = rlstm.train(
                "teacher",
                env=f"{ENV}+mask={','.join(map(str, SEEN))}",
                demonstrations=f"{folder}/pole.safetensors",
                total_steps=2000 * BATCH * LENGTH,
                **settings,
                **run,
            ).run_dir
            returns[name] = rlstm.evaluate(run_dir, episodes=50, deterministic=True).mean_return
    print("steps for which the pole stands, 500 at most")
    for name, mean in returns.items():
        print(f"  {name}: {mean:.0f}")


if __name__ == "__main__":
    main()
