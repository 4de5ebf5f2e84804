"""Train with sb3-contrib's RecurrentPPO and print a line of JSON an update.

    python -m scripts.benchmarks.peers.sb3_contrib_ppo --form shared --num-envs 16 --num-threads 1

It has no encoder before its LSTM:

* ``shared``: one LSTM on the two raw inputs, heads of 64 behind it (its cheaper form);
* ``default``: one LSTM for the actor and one for the critic, heads of 64.
"""

from __future__ import annotations

from typing import Any

from scripts.benchmarks.peers.worker import (
    EPOCHS,
    HIDDEN,
    MINIBATCHES,
    NUM_STEPS,
    Reporter,
    make_env,
    read_arguments,
)

HEAD = 64


def main() -> None:
    """Train without end."""
    arguments = read_arguments(__doc__, "shared", "default")
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    reporter, rollout = Reporter("sb3-contrib"), NUM_STEPS * arguments.num_envs

    class Reports(BaseCallback):
        """Reports an update when the rollout after it starts."""

        updates = 0

        def _on_rollout_start(self) -> None:
            if self.updates:
                reporter.update(rollout)
            self.updates += 1

        def _on_step(self) -> bool:
            return True

    shared: dict[str, Any] = {"shared_lstm": True, "enable_critic_lstm": False} if arguments.form == "shared" else {}
    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([make_env] * arguments.num_envs),
        n_steps=NUM_STEPS,
        batch_size=rollout // MINIBATCHES,
        n_epochs=EPOCHS,
        policy_kwargs={"lstm_hidden_size": HIDDEN, "net_arch": [HEAD], **shared},
        device="cpu",
        seed=arguments.seed,
    )
    model.learn(10**12, callback=Reports(), log_interval=None)


if __name__ == "__main__":
    main()
