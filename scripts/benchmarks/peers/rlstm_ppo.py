"""Train with rlstm's PPO and print a line of JSON an update.

    python -m scripts.benchmarks.peers.rlstm_ppo --form sync --num-envs 16 --num-threads 1

* ``native``: the library's batched CartPole without velocities;
* ``sync``: Gymnasium's single CartPole-v1 with a mask, as every peer plays it.
"""

from __future__ import annotations

from typing import Any

from scripts.benchmarks.peers.worker import (
    ENCODER,
    EPOCHS,
    HIDDEN,
    MINIBATCHES,
    NUM_STEPS,
    Reporter,
    read_arguments,
)

ENVS: dict[str, dict[str, Any]] = {
    "native": {"env": "rlstm/CartPoleNoVel-v0", "vectorization": "native"},
    "sync": {"env": "CartPole-v1+mask=0,2", "vectorization": "sync"},
}


def make_training(num_envs: int, seed: int, **env: Any) -> Any:
    """Return a run that is ready to update, with the settings of the comparison."""
    import rlstm.envs  # noqa: F401 - registers the library's envs.
    from rlstm.agents.ppo import PPO
    from rlstm.api.experiments import make_config, resolve_env
    from rlstm.training.on_policy import Training

    settings: dict[str, Any] = {
        "num_envs": num_envs,
        "num_steps": NUM_STEPS,
        "update_epochs": EPOCHS,
        "num_minibatches": MINIBATCHES,
        "encoder_sizes": (ENCODER,),
        "hidden_size": HIDDEN,
        "normalize_observations": False,
        "scale_rewards": False,
        "total_steps": 10**9,
        "seed": seed,
    }
    config = make_config("ppo", **{**settings, **env})
    return Training(config, PPO, resolve_env(config.env))


def main() -> None:
    """Train without end."""
    arguments = read_arguments(__doc__, *ENVS)
    from rlstm.core.process import prepare_process

    prepare_process(arguments.num_threads)
    reporter = Reporter("rlstm-torch")
    training = make_training(arguments.num_envs, arguments.seed, **ENVS[arguments.form])
    while True:
        phases = training.update()[1]
        reporter.update(NUM_STEPS * arguments.num_envs, **phases)


if __name__ == "__main__":
    main()
