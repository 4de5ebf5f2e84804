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
    Nor does one train that untrained values begin from (``value_bias``): its targets are bootstrapped from others.
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
from rlstm.cells import State
from rlstm.core.trees import tree_map
from rlstm.losses.optimisation import Descent, Term
from rlstm.losses.policy_losses import clipped_policy_loss, clipped_value_loss, entropy_loss, masked_normalise
from rlstm.losses.returns import discounted_sums, explained_variance, gae
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect, refresh_state
from rlstm.rollouts.rollout import Rollout
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs


class _Sequences(NamedTuple):
    """What an update reads of a rollout, ``(T, B, ...)``; the initial state ``(B, ...)``."""

    inputs: PolicyInputs
    actions: Tensor
    is_first: Tensor
    valid: Tensor | None  # None if all steps are.
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor  # Of values, in the critic's units.
    values: Tensor | None  # As they were, in the critic's units; None if their change is not clipped.
    initial_state: State

    def select(self, envs: Tensor) -> _Sequences:
        """Return the sequences of some envs ``(N,)``, in that order."""
        of_steps = tree_map(lambda leaf: leaf.index_select(1, envs), self[:-1])
        return _Sequences._make((*of_steps, tree_map(lambda leaf: leaf.index_select(0, envs), self.initial_state)))


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
        self._descent = Descent(policy.named_parameters(), max_grad_norm=config.max_grad_norm)
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
        lacks_statistics, begin = self.policy.lacks_statistics, self._values_to_begin_at(rollout)
        self.policy.renormalise_values(returns[rollout.valid])
        if lacks_statistics or begin is not None:
            self._update_normalisers(rollout)
            if begin is not None:
                self.policy.begin_values_at(begin)
            return {}
        learning_rate, ent_coef = self._descent.schedule(config, self.num_updates / self._total_updates)
        sequences = self._sequences(rollout, advantages, returns)
        steps: list[_StepMetrics] = []
        for lanes in self._minibatches(rollout.num_envs):
            if steps and config.target_kl is not None and float(steps[-1].approx_kl) > 1.5 * config.target_kl:
                break
            steps.append(self._step(sequences.select(lanes), ent_coef))
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
            "optimizer": self._descent.state_dict(),
            "generator": self.generator.get_state(),
            "action_generator": self.policy.generator.get_state(),
            "num_updates": self.num_updates,
            "return_sums": self._return_sums,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._descent.load_state_dict(values["optimizer"])
        self.generator.set_state(values["generator"])
        self.policy.generator.set_state(values["action_generator"])
        self.num_updates = values["num_updates"]
        self._return_sums = values["return_sums"].to(self._return_sums)

    def _minibatches(self, num_envs: int) -> Iterator[Tensor]:
        """Yield the lanes of every minibatch of every epoch, shuffled anew each epoch."""
        for _ in range(self.config.update_epochs):
            lanes = torch.randperm(num_envs, generator=self.generator).to(self.policy.device)
            yield from lanes.chunk(self.config.num_minibatches)

    def _sequences(self, rollout: Rollout, advantages: Tensor, returns: Tensor) -> _Sequences:
        """Return what the gradient steps read."""
        scale, centre = self.policy.return_scale, self.policy.return_centre
        return _Sequences(
            inputs=rollout.inputs,
            actions=rollout.actions,
            is_first=rollout.is_first,
            valid=None if rollout.all_valid else rollout.valid,
            log_probs=rollout.log_probs,
            advantages=advantages,
            targets=(returns - centre) / scale,
            values=None if self.config.clip_vloss is None else (rollout.values - centre) / scale,
            initial_state=rollout.initial_state,
        )

    def _step(self, batch: _Sequences, ent_coef: float) -> _StepMetrics:
        """Take one gradient step on whole sequences ``(T, B / num_minibatches)``."""
        config, policy, valid = self.config, self.policy, batch.valid
        advantages = masked_normalise(batch.advantages, valid) if config.norm_adv else batch.advantages
        evaluation = policy.evaluate(batch.inputs, batch.actions, batch.is_first, batch.initial_state)
        surrogate = clipped_policy_loss(evaluation.log_probs, batch.log_probs, advantages, valid, config.clip_coef)
        values = (evaluation.values.detach() - policy.return_centre) / policy.return_scale
        value = clipped_value_loss(values, batch.values, batch.targets, valid, config.clip_vloss)
        entropy = entropy_loss(evaluation.entropies, valid)
        terms = {
            "policy_gradient_loss": Term(evaluation.log_probs, *surrogate[:2]),
            "value_loss": Term(evaluation.values, value.value, value.gradient / policy.return_scale, config.vf_coef),
            "entropy_loss": Term(evaluation.entropies, *entropy, ent_coef),
        }
        loss, grad_norm = self._descent.step(terms, f"update {self.num_updates}")
        return _StepMetrics(
            **{name: term.loss for name, term in terms.items()},
            loss=loss,
            approx_kl=surrogate.approx_kl,
            clip_fraction=surrogate.clip_fraction,
            ratio_error=surrogate.ratio_error,
            grad_norm=grad_norm,
        )

    def _values_to_begin_at(self, rollout: Rollout) -> float | None:
        """Return the value that untrained values should begin at, or None where they stay as they are."""
        if self.config.value_bias == "zero" or self.num_updates or self.policy.values_have_moved:
            return None
        return _expected_return(rollout, self.config.gamma) or None  # They are at 0 already.

    def _update_normalisers(self, rollout: Rollout) -> None:
        sums, self._return_sums = discounted_sums(
            rollout.rewards, rollout.credit_cuts, self._return_sums, self.config.gamma
        )
        self.policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, sums)


def _expected_return(rollout: Rollout, gamma: float) -> float:
    """Return the mean value that agrees with a rollout: V = r + γ(1 - p)V with its mean reward and share p of ends.

    Ends are steps after which nothing is worth anything; the others go on, truncated ones too. Where γ is 1 and nothing
    ends, V is that of a rollout's length.
    """
    ends = rollout.credit_cuts & rollout.terminated
    reward, share = (float(steps[rollout.valid].double().mean()) for steps in (rollout.rewards, ends))
    goes_on = gamma * (1 - share)
    return reward / (1 - goes_on) if goes_on < 1 else reward * rollout.num_steps
