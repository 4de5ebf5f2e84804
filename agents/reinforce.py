"""REINFORCE with a recurrent policy: recurrent policy gradients.

Sources: Williams 1992 (Machine Learning 8:229); Wierstra, Foerster, Peters, Schmidhuber, *Solving deep memory POMDPs
with recurrent policy gradients*, ICANN 2007, and *Recurrent policy gradients*, Logic Journal of the IGPL 18:620, 2010.

Implementation details, each with its origin:

1.  A batch is a fixed number of complete episodes, or of complete trials if memory.lifetime is trial. Envs are
    idle once enough have begun, so which are in the batch doesn't depend on their length (``rlstm.rollouts.collect``).
2.  The gradient is that of log-probabilities weighted by the rewards that followed them, backpropagated through the
    whole trajectory (Wierstra et al. 2007; ``memory.bptt_horizon`` shortens it).
3.  What is subtracted from the rewards-to-go and changes only the variance: nothing; a running mean for each time step
    over the batches before; or a history-dependent value: that mean and what a second memory, which reads the same
    history, adds to it (Wierstra et al. 2010; there without the mean, which the second memory had to learn first). With
    ``critic_memory`` shared it is a second head on the actor's memory.
4.  The mean is over the batch's steps, not its episodes, so that the weights of the losses and the learning rate mean
    the same whatever an episode's length. A batch of short episodes thereby weighs a little more than in the sources;
    where lengths are equal there is no difference. As is usual, rewards-to-go are discounted from their own step on.
5.  A truncated episode counts as it stands: no value is bootstrapped.
6.  With ``scale_rewards`` advantages and the critic's errors are divided by the deviation of discounted returns.
    Advantages are not centred: that is the baseline's part.
7.  A critic with a memory of its own takes ``critic_epochs`` steps a batch after the policy's one, so that it keeps up.
8.  Normaliser statistics, critic and running mean change after the step, so an episode is never its own baseline.
9.  The first batch only fills the normalisers, if there are any: targets in unknown units would saturate the memory.
10. Adam with ε = 1e-5 and optional linear annealing of the learning rate and of the entropy's weight; gradients clipped
    by their global norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlstm.agents.configs.reinforce import REINFORCEConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.losses.optimisation import Descent, Term
from rlstm.losses.policy_losses import clipped_value_loss, entropy_loss, policy_gradient_loss
from rlstm.losses.returns import discounted_sums, explained_variance, rewards_to_go, steps_since_cut
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect_trajectories
from rlstm.rollouts.rollout import Rollout, StepsOfAll
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs

_TRAJECTORIES = 32  # Of a batch, unless its episodes are set.
_DECAY = 0.9  # What a batch weighs in the running mean beside the one after it.


class REINFORCE:
    """The learner: owns a policy and an optimiser.

    Arguments as those of ``rlstm.agents.ppo.PPO``; the generator draws the seeds of the envs' resets.

    Raises:
        ValueError: If memory never ends, so that no trajectory is complete, a batch holds no whole number of trials, or
            ``popart`` is set.
    """

    run_type = Training
    begins_anew = True
    reads_onward = False
    overlap = None

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: REINFORCEConfig,
        *,
        num_envs: int,
        total_steps: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        if policy.config.popart:
            raise ValueError(
                "popart is set, but REINFORCE's critic learns what the history adds to a running mean: leave it out, "
                "scale_rewards brings returns to one size, or train with ppo."
            )
        self.policy = policy
        self.config = config
        self.generator = generator
        self.ranks = ranks
        self.num_updates = 0
        self.num_steps = 0
        self._num_trajectories = _num_trajectories(policy, config)
        self._num_envs = num_envs
        self._share = 1.0  # Of the present batch's steps, this rank's.
        self._total_steps = total_steps
        self._descent = Descent(
            policy.named_parameters(),
            max_grad_norm=config.max_grad_norm,
            apart=() if policy.critic is None else ("critic.", "value_head."),
            ranks=ranks,
        )
        # On the host, where sums are added in one order, so that a resumed run is the same to the last bit.
        self._means = self._mean_counts = torch.zeros(0, dtype=policy.dtype)

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play a batch of complete episodes, every env reset with a new seed."""
        seeds = torch.randint(2**62, (self._num_envs,), generator=self.generator).tolist()
        return collect_trajectories(self.policy, envs, collector_state, self._num_trajectories, seeds)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one batch and return the metrics by metric name.

        Raises:
            NonFiniteError: If a loss or gradient is not finite; the weights are then those before the bad step.
        """
        steps = rollout.of_all(self.ranks)
        returns = rewards_to_go(steps.rewards, steps.credit_cuts, gamma=self.config.gamma)
        metrics = {"rollout/fill_share": float(steps.valid.float().mean())}
        if not self.policy.lacks_statistics:
            metrics |= self._step(rollout, steps, returns)
            self.num_updates += 1
        self.num_steps += int(steps.valid.sum())
        self._update_mean(steps, returns)
        self._update_normalisers(rollout, steps)
        return metrics

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Leave the carried state: the next batch begins anew."""
        return {}

    def begin(self) -> None:
        """Forget nothing: every batch begins anew."""

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "optimizer": self._descent.state_dict(),
            "generator": self.generator.get_state(),
            "action_generator": self.policy.generator.get_state(),
            "num_updates": self.num_updates,
            "num_steps": self.num_steps,
            "means": self._means,
            "mean_counts": self._mean_counts,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._descent.load_state_dict(values["optimizer"])
        self.generator.set_state(values["generator"])
        self.policy.generator.set_state(values["action_generator"])
        self.num_updates, self.num_steps = values["num_updates"], values["num_steps"]
        self._means = values["means"].to(self._means)
        self._mean_counts = values["mean_counts"].to(self._mean_counts)

    def baselines(self, rollout: Rollout | StepsOfAll) -> Tensor:
        """Return what is subtracted from the rewards-to-go, ``(T, B)`` in raw units."""
        if self.config.baseline == "none":
            return torch.zeros_like(rollout.rewards)
        means = self._means_at_steps(rollout)
        return means + rollout.values if self.config.baseline == "history" else means

    def _means_at_steps(self, rollout: Rollout | StepsOfAll) -> Tensor:
        """Return the running mean of each step, ``(T, B)``; steps not reached before are likened to the last one."""
        if not len(self._means):
            return torch.zeros_like(rollout.rewards)
        ages = steps_since_cut(rollout.credit_cuts)
        return self._means.to(rollout.rewards.device)[ages.clamp(max=len(self._means) - 1)]

    def _step(self, batch: Rollout, steps: StepsOfAll, returns: Tensor) -> dict[str, float]:
        """Take the gradient steps of a batch: the policy's, then the critic's.

        Args:
            batch: Of this rank's envs.
            steps: Of all ranks' envs, ``(T, B)``.
            returns: Of them.
        """
        config, policy = self.config, self.policy
        valid = None if batch.all_valid else batch.valid
        self._share = 1.0 if self.ranks.is_alone else int(batch.valid.sum()) / int(steps.valid.sum())
        learning_rate, ent_coef = self._descent.schedule(config, self.num_steps / self._total_steps)
        baselines, own = self.baselines(steps), self.ranks.own(self._num_envs)
        advantages = ((returns - baselines) / policy.return_scale)[:, own]
        evaluation = batch.replay(policy)
        terms = {
            "policy_gradient_loss": Term(
                evaluation.log_probs, *policy_gradient_loss(evaluation.log_probs, advantages, valid)
            ),
            "entropy_loss": Term(evaluation.entropies, *entropy_loss(evaluation.entropies, valid), ent_coef),
        }
        of_critic = {}
        if config.baseline == "history":
            weight = config.vf_coef if policy.critic is None else 1.0
            of_critic = {"value_loss": self._value_term(batch, returns[:, own], evaluation.values, weight)}
        if policy.critic is None:
            terms |= of_critic
        metrics = self._descent.step(terms, self._place, share=self._share)
        if of_critic and policy.critic is not None:
            losses = self._descent.step(of_critic, self._place, apart=True, share=self._share)
            metrics["value_loss"] = losses["value_loss"]
            for _ in range(config.critic_epochs - 1):
                self._fit_critic(batch, returns[:, own])
        log_ratios = torch.where(batch.valid, (evaluation.log_probs - batch.log_probs).detach(), 0.0)
        return {
            **{f"train/{name}": float(metric) for name, metric in metrics.items()},
            "train/first_ratio_error": max(self.ranks.gather(float((log_ratios.exp() - 1).abs().max()))),
            "train/explained_variance": explained_variance(baselines[steps.valid], returns[steps.valid]),
            "train/learning_rate": learning_rate,
            "train/ent_coef": ent_coef,
            "train/n_updates": float(self.num_updates + 1),
        }

    def _fit_critic(self, batch: Rollout, returns: Tensor) -> None:
        values = self.policy.values(batch.inputs, batch.is_first, batch.initial_state)
        terms = {"value_loss": self._value_term(batch, returns, values, 1.0)}
        self._descent.step(terms, self._place, apart=True, share=self._share)

    def _value_term(self, batch: Rollout, returns: Tensor, values: Tensor, weight: float) -> Term:
        """Return the critic's part of the loss: values are what the history adds to the running mean of the step."""
        scale, valid = self.policy.return_scale, None if batch.all_valid else batch.valid
        targets = (returns - self._means_at_steps(batch)) / scale
        loss = clipped_value_loss(values.detach() / scale, None, targets, valid, None)
        return Term(values, loss.value, loss.gradient / scale, weight)

    @property
    def _place(self) -> str:
        return f"update {self.num_updates}"

    def _update_mean(self, steps: StepsOfAll, returns: Tensor) -> None:
        """Take a batch into the running mean of returns for each time step."""
        ages = steps_since_cut(steps.credit_cuts)[steps.valid].cpu()
        returns = returns[steps.valid].to(self._means)
        size = max(int(ages.max()) + 1, len(self._means))
        means, counts, sums = self._means.new_zeros(3, size)
        means[: len(self._means)] = self._means
        counts[: len(self._means)] = _DECAY * self._mean_counts
        counts_now = torch.bincount(ages, minlength=size).to(counts)
        counts += counts_now
        sums.index_add_(0, ages, returns)
        # Means, not sums, are kept: at steps that no trajectory reaches any more sums and counts would fade to 0 / 0.
        means += (sums - counts_now * means) / counts.clamp(min=1.0)
        self._means, self._mean_counts = means, counts

    def _update_normalisers(self, rollout: Rollout, steps: StepsOfAll) -> None:
        start = torch.zeros_like(steps.rewards[0])
        sums, _ = discounted_sums(steps.rewards, steps.credit_cuts, start, self.config.gamma)
        self.policy.update_normalisers(rollout.inputs.observations, steps.rewards, steps.valid, sums, self.ranks)


def _num_trajectories(policy: RecurrentPolicy, config: REINFORCEConfig) -> int:
    """Return the number of trajectories of a batch."""
    lifetime, per_trial = policy.memory.lifetime, policy.memory.episodes_per_trial
    if lifetime == "lifelong":
        raise ValueError(
            "memory.lifetime is 'lifelong', but REINFORCE learns from complete trajectories, and these never end. Use "
            "episode or trial, or train with ppo."
        )
    if lifetime == "episode" or per_trial is None:
        return _TRAJECTORIES if config.num_episodes is None else config.num_episodes
    if config.num_episodes is None:
        return _TRAJECTORIES
    if config.num_episodes % per_trial:
        raise ValueError(
            f"num_episodes is {config.num_episodes}, which is no whole number of trials of {per_trial} episodes; use "
            f"{max(1, round(config.num_episodes / per_trial)) * per_trial}."
        )
    return config.num_episodes // per_trial
