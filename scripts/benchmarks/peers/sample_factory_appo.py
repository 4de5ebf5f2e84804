"""Train with Sample Factory's APPO and print a line of JSON an update.

    python -m scripts.benchmarks.peers.sample_factory_appo --form serial --num-envs 16 --num-threads 1

* ``serial``: all in one process, no policy lag: synchronous PPO;
* ``async``: its own way: one learner, one inference and as many rollout processes as threads, which share that many
  cores; experience may be older than the policy.

Equal to the others: encoder 64, LSTM 128, rollouts of 128 steps with gradients through the whole of them, 4 epochs of 4
minibatches of whole rollouts, no normalisation, single envs. What can't be made equal: each process of ``async`` has
one thread, whatever the number of cores; its ratio is clipped to 1/(1 + ε) and 1 + ε, its values too; its minibatches
are not shuffled; it needs Gymnasium < 1 and numpy < 2. ``serial`` uses its batched sampling, which was faster than the
other, and ``async`` its double buffering.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch

from scripts.benchmarks.peers.worker import (
    ENCODER,
    EPOCHS,
    HIDDEN,
    MINIBATCHES,
    NUM_STEPS,
    Reporter,
    make_env,
    read_arguments,
)

TASK = "cartpole_without_velocities"
NEVER = 10**6  # Seconds.

if __name__ == "__mp_main__":  # In the processes that it starts, which set their threads by themselves.
    torch.set_flush_denormal(True)


def make(name: str, cfg: Any = None, env_config: Any = None, render_mode: str | None = None) -> Any:
    """Make one env, called by Sample Factory with these arguments."""
    return make_env()


def words(form: str, num_envs: int, num_threads: int, seed: int, folder: str) -> list[str]:
    """Return its command line."""
    serial = form == "serial"
    workers = 1 if serial else num_threads
    settings = {
        "env": TASK,
        "experiment": "speed",
        "train_dir": folder,
        "device": "cpu",
        "seed": seed,
        "serial_mode": serial,
        "async_rl": not serial,
        "batched_sampling": serial,
        "num_workers": workers,
        "num_envs_per_worker": num_envs // workers,
        "worker_num_splits": 1 if serial else 2,
        "rollout": NUM_STEPS,
        "batch_size": num_envs * NUM_STEPS // MINIBATCHES,
        "num_batches_per_epoch": MINIBATCHES,
        "num_epochs": EPOCHS,
        "use_rnn": True,
        "rnn_type": "lstm",
        "rnn_size": HIDDEN,
        "nonlinearity": "tanh",
        "normalize_input": False,
        "normalize_returns": False,
        "set_workers_cpu_affinity": False,  # They stay on the cores of this process.
        "log_to_file": False,
        **dict.fromkeys(("save_every_sec", "save_best_every_sec", "heartbeat_reporting_interval"), NEVER),
    }
    return [*(f"--{name}={value}" for name, value in settings.items()), "--encoder_mlp_layers", str(ENCODER)]


def main() -> None:
    """Train without end."""
    arguments = read_arguments(__doc__, "serial", "async")
    reporter, rollout = Reporter("sample-factory"), NUM_STEPS * arguments.num_envs
    from sample_factory.algo.runners.runner import AlgoObserver
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import make_runner

    class Reports(AlgoObserver):
        """Reports each training iteration."""

        def on_training_step(self, runner: Any, training_iteration_since_resume: int) -> None:
            reporter.update(rollout)

    register_env(TASK, make)
    with tempfile.TemporaryDirectory() as folder:
        line = words(arguments.form, arguments.num_envs, arguments.num_threads, arguments.seed, folder)
        _, runner = make_runner(parse_full_cfg(parse_sf_args(line)[0], line))
        runner.register_observer(Reports())
        runner.init()
        runner.run()


if __name__ == "__main__":
    main()
