"""Keep time: make spikes that come as late as told, by counting steps that all look the same.

    python -m scripts.examples.rhythm

A delay is shown as a constant, and a spike is due when so many steps have gone by since the last one: the task GTS of
Gers, Schraudolph & Schmidhuber (2002). The policy learns from a teacher with the squared error, and is then played on
trains that it has not learnt from, once with its memory and once with its memory reset at every step.
"""

from __future__ import annotations

import tempfile

import gymnasium as gym

import rlstm
import rlstm.envs  # Registers the tasks.

ENV, TASK = "rlstm/GenerateSpikes-v0", {"interval": 5, "max_delay": 5, "num_intervals": 10}
EPISODES = 500


def main() -> None:
    """Train, and play with and without memory."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"cell": "peephole_lstm", "hidden_size": 16, "learning_rate": 0.01, "anneal_lr": True}
        run = {"total_steps": 1_000_000, "eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        run_dir = rlstm.train("teacher", env=ENV, env_kwargs=TASK, **settings, **run).run_dir
        played = rlstm.evaluate(run_dir, episodes=EPISODES)
        forgetful = rlstm.evaluate(run_dir, episodes=EPISODES, ablate_memory=True)
    bound = gym.make(ENV, **TASK).unwrapped.memoryless_return.value
    print(
        f"{EPISODES} unseen trains of {TASK['num_intervals']} spikes: squared error of a train, share without a mistake"
    )
    print(f"  LSTM with peepholes: {-played.mean_return:.3f}, {played.success_rate:.3f}")
    print(f"  the same without its memory: {-forgetful.mean_return:.3f}, {forgetful.success_rate:.3f}")
    print(f"  the least possible without a memory: {-bound:.3f}")


if __name__ == "__main__":
    main()
