"""Proximal policy optimisation with a recurrent policy.

Sources: Schulman et al. 2017 (arXiv 1707.06347); advantages by Schulman et al. 2016 (arXiv 1506.02438).

Implementation details, each with its origin:

1.  Minibatches divide the environments, not the steps: every sequence is whole and starts from its stored state, so
    backpropagation through time runs over the rollout (``memory.bptt_horizon`` shortens it).
2.  The state carried into the next rollout is replayed with the new weights after the last epoch
    (``refresh_states``), so it is not stale.
3.  A truncated episode is bootstrapped with V(final observation), the state being the one before the reset
    (Pardo et al. 2018, arXiv 1712.00378).
4.  Advantages are normalised in each minibatch (OpenAI baselines).
5.  The value loss is in the critic's units: with ``scale_rewards`` errors are divided by the deviation of discounted
    returns (OpenAI baselines' VecNormalize, without its clipping). Rollouts stay in raw units.
6.  Normaliser statistics change after the last epoch only, so the first ratio is exactly 1 up to rounding:
    ``train/first_ratio_error``.
7.  The first rollout only fills the normalisers, if there are any: targets in unknown units would saturate the memory.
8.  Adam with ε = 1e-5 and optional linear annealing of the learning rate and of the entropy's weight; gradients clipped
    by their global norm (OpenAI baselines).
9.  Epochs end early once the KL estimate passes 1.5 ``target_kl`` (Spinning Up, Stable-Baselines3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.losses.optimisation import descend, schedule
from rlstm.losses.policy_losses import clipped_policy_loss, clipped_value_loss, masked_mean, masked_normalise
from rlstm.losses.returns import discounted_sums, explained_variance, gae
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect, refresh_state
from rlstm.rollouts.rollout import Rollout
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs


class _StepMetrics(NamedTuple):
    """What a gradient step tells, scalars; logged under their names as means over an update."""

    policy_gradient_loss: Tensor
    value_loss: Tensor
    entropy_loss: Tensor
    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    grad_norm: Tensor
    ratio_error: Tensor  # Only the first one's is logged.


class PPO:
    """The learner: owns a policy and an optimiser.

    Args:
        policy: What is trained.
        config: The algorithm's constants.
        num_envs: Environments B of every rollout.
        total_steps: Environment steps of the run, for annealing.
        generator: Draws the minibatches.

    Raises:
        ValueError: If the minibatches don't divide the environments.
    """

    run_type = Training
    begins_anew = False

    def __init__(
        self, policy: RecurrentPolicy, config: PPOConfig, *, num_envs: int, total_steps: int, generator: torch.Generator
    ) -> None:
        if num_envs % config.num_minibatches:
            divisors = [count for count in range(1, num_envs + 1) if num_envs % count == 0]
            raise ValueError(
                f"num_minibatches is {config.num_minibatches}, which does not divide num_envs {num_envs}: a minibatch "
                f"holds whole sequences. Use one of {', '.join(map(str, divisors))}, or another num_envs."
            )
        self.policy = policy
        self.config = config
        self.generator = generator
        self.num_updates = 0
        self._total_updates = max(1, math.ceil(total_steps / (num_envs * config.num_steps)))
        self._optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, eps=1e-5, fused=True)
        self._return_sums = torch.zeros(num_envs, dtype=policy.dtype, device=policy.device)

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play ``num_steps`` steps in every env, from where it stands."""
        return collect(self.policy, envs, collector_state, self.config.num_steps)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one rollout and return the metrics by metric name.

        Raises:
            NonFiniteError: If a loss or gradient is not finite; the weights are then those before the bad step.
        """
        config = self.config
        steps_of_all = rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts
        advantages = gae(*steps_of_all, gamma=config.gamma, gae_lambda=config.gae_lambda)
        returns = advantages + rollout.values
        if self.policy.lacks_statistics:
            self._update_normalisers(rollout)
            self.policy.renormalise_values(returns[rollout.valid])
            if config.value_bias == "returns":
                self.policy.begin_values_at(_expected_return(rollout, config.gamma))
            return {}
        self.policy.renormalise_values(returns[rollout.valid])
        learning_rate, ent_coef = schedule(self._optimizer, config, self.num_updates / self._total_updates)
        steps: list[_StepMetrics] = []
        for lanes in self._minibatches(rollout.num_envs):
            if steps and config.target_kl is not None and float(steps[-1].approx_kl) > 1.5 * config.target_kl:
                break
            steps.append(self._step(rollout.select(lanes), advantages[:, lanes], returns[:, lanes], ent_coef))
        self.num_updates += 1
        self._update_normalisers(rollout)
        means = torch.stack([torch.stack(step[:-1]) for step in steps]).mean(0).tolist()
        return {
            **{f"train/{name}": mean for name, mean in zip(_StepMetrics._fields, means, strict=False)},
            "train/first_ratio_error": float(steps[0].ratio_error),
            "train/explained_variance": explained_variance(rollout.values[rollout.valid], returns[rollout.valid]),
            "train/learning_rate": learning_rate,
            "train/ent_coef": ent_coef,
            "train/clip_range": config.clip_coef,
            "train/n_updates": float(self.num_updates),
        }

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Replace the carried state by the one that the present weights give the same past."""
        if not self.config.refresh_states:
            return {}
        return refresh_state(self.policy, rollout, collector_state)

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "action_generator": self.policy.generator.get_state(),
            "num_updates": self.num_updates,
            "return_sums": self._return_sums,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._optimizer.load_state_dict(values["optimizer"])
        self.generator.set_state(values["generator"])
        self.policy.generator.set_state(values["action_generator"])
        self.num_updates = values["num_updates"]
        self._return_sums = values["return_sums"].to(self._return_sums)

    def _minibatches(self, num_envs: int) -> Iterator[Tensor]:
        """Yield the lanes of every minibatch of every epoch, shuffled anew each epoch."""
        for _ in range(self.config.update_epochs):
            lanes = torch.randperm(num_envs, generator=self.generator).to(self.policy.device)
            yield from lanes.chunk(self.config.num_minibatches)

    def _step(self, batch: Rollout, advantages: Tensor, returns: Tensor, ent_coef: float) -> _StepMetrics:
        """Take one gradient step on whole sequences ``(T, B / num_minibatches)``."""
        config, scale = self.config, self.policy.return_scale
        valid = None if batch.all_valid else batch.valid
        if config.norm_adv:
            advantages = masked_normalise(advantages, valid)
        evaluation = batch.replay(self.policy)
        surrogate = clipped_policy_loss(evaluation.log_probs, batch.log_probs, advantages, valid, config.clip_coef)
        centre = self.policy.return_centre
        values, old_values, targets = ((part - centre) / scale for part in (evaluation.values, batch.values, returns))
        value_loss = clipped_value_loss(values, old_values, targets, valid, config.clip_vloss)
        entropy_loss = -masked_mean(evaluation.entropies, valid)
        loss = surrogate.loss + ent_coef * entropy_loss + config.vf_coef * value_loss
        losses = {"policy_gradient_loss": surrogate.loss, "value_loss": value_loss, "entropy_loss": entropy_loss}
        named, place = self.policy.named_parameters(), f"update {self.num_updates}"
        grad_norm = descend(self._optimizer, named, loss, losses, max_grad_norm=config.max_grad_norm, place=place)
        return _StepMetrics(
            **{name: value.detach() for name, value in losses.items()},
            loss=loss.detach(),
            approx_kl=surrogate.approx_kl,
            clip_fraction=surrogate.clip_fraction,
            ratio_error=surrogate.ratio_error,
            grad_norm=grad_norm,
        )

    def _update_normalisers(self, rollout: Rollout) -> None:
        sums, self._return_sums = discounted_sums(
            rollout.rewards, rollout.credit_cuts, self._return_sums, self.config.gamma
        )
        self.policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, sums)


def _expected_return(rollout: Rollout, gamma: float) -> float:
    """Return the mean value that agrees with a rollout: V = r + γ(1 - p)V with its mean reward and share p of ends."""
    ends = rollout.credit_cuts & rollout.terminated & ~rollout.truncated
    rewards, share = rollout.rewards[rollout.valid].mean(), ends[rollout.valid].double().mean()
    return float(rewards / (1 - gamma * (1 - share)))
