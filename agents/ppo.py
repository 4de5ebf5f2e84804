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
8.  Adam with ε = 1e-5 and optional linear annealing of the learning rate, of the entropy's weight and of the ratio's
    range; gradients clipped by their global norm (OpenAI baselines). With ``weight_decay`` it is AdamW.
9.  Epochs end early once the KL estimate passes 1.5 ``target_kl`` (Spinning Up, Stable-Baselines3), or the learning
    rate follows it (``desired_kl``; rsl_rl, there after every minibatch, here after every update).
10. A rollout of several trials may be cut into sequences of one each (``sequence_length``), so that minibatches are
    made of trials; a sequence that begins with a reset needs no stored state.
11. With ``exploration`` a bonus for what is new has values and advantages of its own (``rlstm.exploration``), which are
    added to those of the env's rewards in units of their deviation. It is no part of rewards, returns or evaluations.
12. With ``advantages`` ``vtrace`` the present weights first replay the rollout: ratios π/μ to what acted correct its
    advantages and targets (V-trace), and PPO's ρ is that to the weights an update begins with (decoupled PPO, Hilton
    et al. 2021, arXiv 2110.00641). ``train/first_ratio_error`` is that of a replay by the weights that acted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.exploration.bonus import Bonus, BonusReturns
from rlstm.losses.minibatches import Minibatches
from rlstm.losses.optimisation import Descent, Term, annealed
from rlstm.losses.policy_losses import clipped_policy_loss, clipped_value_loss, entropy_loss
from rlstm.losses.returns import discounted_sums, expected_return, explained_variance, gae, vtrace
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect, refresh_state
from rlstm.rollouts.overlap import Overlap
from rlstm.rollouts.rollout import Rollout, StepsOfAll
from rlstm.rollouts.sequences import Sequences
from rlstm.training.config import refusals_name_settings
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs

_LEAST_RATE, _LARGEST_RATE, _RATE_FACTOR = 1e-5, 1e-2, 1.5  # Of learning rates that follow the KL estimate; rsl_rl.


class PPO:
    """The learner: owns a policy and an optimiser.

    Args:
        policy: What is trained.
        config: The algorithm's constants.
        num_envs: Environments B of every rollout, those of all ranks.
        total_steps: Environment steps of the run, for annealing.
        generator: Draws the minibatches.
        ranks: Those that share the envs.

    Raises:
        ValueError: If the minibatches don't divide the sequences of a rollout, or memory never ends and these are
            shorter than it, or there are several ranks and a bonus or an overlap.
    """

    run_type = Training
    begins_anew = False

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: PPOConfig,
        *,
        num_envs: int,
        total_steps: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        config.check_run(num_envs=num_envs, num_ranks=ranks.count, lifelong=policy.memory.lifetime == "lifelong")
        self.policy = policy
        self.config = config
        self.generator = generator
        self.ranks = ranks
        self.num_updates = 0
        self._num_envs = num_envs
        self._total_updates = max(1, math.ceil(total_steps / (num_envs * config.num_steps)))
        self.bonus = _make_bonus(policy, config, num_envs)
        self.overlap = Overlap(policy, config.num_steps, refreshes=config.refresh_states) if config.overlap else None
        parameters = list(policy.named_parameters())
        if self.bonus is not None:
            parameters += self.bonus.value_head.named_parameters("bonus_value_head")
        self._descent = Descent(
            parameters, max_grad_norm=config.max_grad_norm, weight_decay=config.weight_decay, ranks=ranks
        )
        self._adapted_rate = config.learning_rate  # Where it follows the KL estimate.
        self._return_sums = torch.zeros(num_envs, dtype=policy.dtype, device=policy.device)

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play ``num_steps`` steps in every env, from where it stands."""
        return collect(self.policy, envs, collector_state, self.config.num_steps, onward=self.reads_onward)

    @property
    def reads_onward(self) -> bool:
        """Whether it learns from what the steps of a rollout led to, beside their rewards."""
        return self.bonus is not None

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one rollout and return the metrics by metric name.

        Raises:
            NonFiniteError: If a loss or gradient is not finite; the weights are then those before the bad step.
        """
        config = self.config
        rollout, ratios, told = self._replay(rollout)
        steps_of_all = rollout.of_all(self.ranks)
        values, valid = steps_of_all.values, steps_of_all.valid
        advantages, returns = self._advantages(steps_of_all, ratios)
        if self.bonus is not None:
            self.bonus.take_in(rollout)
        lacks_statistics = self.policy.lacks_statistics or (self.bonus is not None and self.bonus.lacks_statistics)
        begin = self._values_to_begin_at(steps_of_all)
        self.policy.renormalise_values(returns[valid])
        if lacks_statistics or begin is not None:
            self._update_normalisers(rollout, steps_of_all)
            if begin is not None:
                self.policy.begin_values_at(begin)
            return {}
        progress = min(1.0, self.num_updates / self._total_updates)
        learning_rate, ent_coef = self._descent.schedule(config, progress)
        if config.desired_kl is not None:
            learning_rate = self._descent.learning_rate = self._adapted_rate
        clip_coef = annealed(config.clip_coef, config.final_clip_coef, progress)
        bonus_returns, told_of_bonus = self._explore(rollout, progress, advantages)
        sequences = self._sequences(rollout, advantages, returns, bonus_returns)
        minibatches = Minibatches(
            sequences,
            advantages,
            None if valid.all() else valid,
            num_envs=self._num_envs,
            ranks=self.ranks,
            normalise=config.norm_adv,
        )
        steps: list[dict[str, Tensor]] = []
        ratio_errors: list[Tensor] = []
        for places in self._places(self.ranks.count * sequences.num_sequences):
            if steps and config.target_kl is not None and float(steps[-1]["approx_kl"]) > 1.5 * config.target_kl:
                break
            step, ratio_error = self._step(*minibatches.select(places), ent_coef, clip_coef)
            steps.append(step)
            ratio_errors.append(ratio_error)
        self._adapt_rate(float(steps[-1]["approx_kl"]))
        self.num_updates += 1
        self._update_normalisers(rollout, steps_of_all)
        means = torch.stack([torch.stack(list(step.values())) for step in steps]).mean(0).tolist()
        return {
            **{f"train/{name}": mean for name, mean in zip(steps[0], means, strict=True)},
            "train/first_ratio_error": max(self.ranks.gather(float(ratio_errors[0]))),
            **told,
            **told_of_bonus,
            "train/explained_variance": explained_variance(values[valid], returns[valid]),
            "train/learning_rate": learning_rate,
            "train/ent_coef": ent_coef,
            "train/clip_range": clip_coef,
            "train/n_updates": float(self.num_updates),
        }

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Replace the carried state by the one that the present weights give the same past."""
        if not self.config.refresh_states:
            return {}
        return refresh_state(self.policy, rollout, collector_state)

    def begin(self) -> None:
        """Forget what is carried for each env: all are reset."""
        self._return_sums = torch.zeros_like(self._return_sums)
        if self.bonus is not None:
            self.bonus.begin()

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "optimizer": self._descent.state_dict(),
            "generator": self.generator.get_state(),
            "action_generator": self.policy.generator.get_state(),
            "num_updates": self.num_updates,
            "return_sums": self._return_sums,
            "adapted_rate": self._adapted_rate,
            "bonus": None if self.bonus is None else self.bonus.state(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._descent.load_state_dict(values["optimizer"])
        self.generator.set_state(values["generator"])
        self.policy.generator.set_state(values["action_generator"])
        self.num_updates = values["num_updates"]
        self._return_sums = values["return_sums"].to(self._return_sums)
        self._adapted_rate = values.get("adapted_rate", self.config.learning_rate)  # New in this version.
        if self.bonus is not None:
            self.bonus.load_state(values["bonus"])

    def _places(self, num_sequences: int) -> Iterator[Tensor]:
        """Yield which sequences are in every minibatch of every epoch, shuffled anew each epoch."""
        for _ in range(self.config.update_epochs):
            places = torch.randperm(num_sequences, generator=self.generator).to(self.policy.device)
            yield from places.chunk(self.config.num_minibatches)

    def _replay(self, acted: Rollout) -> tuple[Rollout, Tensor | None, dict[str, float]]:
        """Return a rollout as the present weights see it, ratios π/μ ``(T, B)`` of all ranks, and metrics, for V-trace.

        Without V-trace the rollout is as it was, and there are no ratios.
        """
        if self.config.advantages == "gae":
            return acted, None, {}
        rollout = acted.seen_by(self.policy)
        own = (rollout.log_probs - acted.log_probs).exp()
        error = float((own - 1).abs().max()) if acted.replay_error is None else acted.replay_error
        (ratios,) = self.ranks.columns(own)
        told = {
            "train/first_ratio_error": max(self.ranks.gather(error)),
            "train/vtrace_ratio": float(ratios.mean()),
            "train/vtrace_clipped": float((ratios > 1.001 * self.config.vtrace_rho).float().mean()),  # Not by rounding.
        }
        return rollout, ratios, told

    def _advantages(self, steps: StepsOfAll, ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return advantages and returns ``(T, B)``, corrected by the ratios where there are some."""
        config, values = self.config, steps.values
        of_steps = steps.rewards, values, steps.next_values, steps.credit_cuts
        gamma, gae_lambda, rho_bar, c_bar = config.gamma, config.gae_lambda, config.vtrace_rho, config.vtrace_c
        if ratios is not None:
            return vtrace(*of_steps, ratios, gamma=gamma, gae_lambda=gae_lambda, rho_bar=rho_bar, c_bar=c_bar)
        advantages = gae(*of_steps, gamma=gamma, gae_lambda=gae_lambda)
        return advantages, advantages + values

    def _explore(
        self, rollout: Rollout, progress: float, advantages: Tensor
    ) -> tuple[BonusReturns | None, dict[str, float]]:
        """Add the bonus's advantages to the env's, in place, and train what predicts; return the rest and metrics."""
        config = self.config
        if self.bonus is None:
            return None, {}
        returns, metrics = self.bonus.returns(self.policy, rollout)
        bonus_coef = annealed(config.bonus_coef, config.final_bonus_coef, progress)
        advantages.add_(returns.advantages * (bonus_coef * self.policy.return_scale))
        envs = torch.arange(rollout.num_envs, device=self.policy.device)
        metrics |= self.bonus.learn(rollout, envs.chunk(config.num_minibatches), f"update {self.num_updates}")
        return returns, {**metrics, "exploration/bonus_coef": bonus_coef}

    def _adapt_rate(self, approx_kl: float) -> None:
        """Let the learning rate follow the KL estimate of an update's last gradient step."""
        desired = self.config.desired_kl
        if desired is None:
            return
        if approx_kl > 2 * desired:
            self._adapted_rate = max(_LEAST_RATE, self._adapted_rate / _RATE_FACTOR)
        elif approx_kl < desired / 2:
            self._adapted_rate = min(_LARGEST_RATE, self._adapted_rate * _RATE_FACTOR)

    def _sequences(
        self, rollout: Rollout, advantages: Tensor, returns: Tensor, bonus: BonusReturns | None
    ) -> Sequences:
        """Return what the gradient steps read of this rank's envs; advantages and returns ``(T, B)`` are of all."""
        own = self.ranks.own(self._num_envs)
        scale, centre, length = self.policy.return_scale, self.policy.return_centre, self.config.sequence_length
        sequences = Sequences(
            inputs=rollout.inputs,
            actions=rollout.actions,
            is_first=rollout.is_first,
            valid=None if rollout.all_valid else rollout.valid,
            log_probs=rollout.log_probs,
            advantages=advantages[:, own],
            targets=(returns[:, own] - centre) / scale,
            values=None if self.config.clip_vloss is None else (rollout.values - centre) / scale,
            bonus_targets=None if bonus is None else bonus.targets,
            initial_state=rollout.initial_state,
        )
        if length in (None, rollout.num_steps):
            return sequences
        with refusals_name_settings():
            return sequences.cut(length, self.policy.init_state)

    def _step(
        self, batch: Sequences, share: float, ent_coef: float, clip_coef: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Take one gradient step on whole sequences, this rank's share of a minibatch.

        Returns:
            Scalars by metric name, means over the whole minibatch, and the largest |ρ - 1| of this rank's share.
        """
        config, policy, valid = self.config, self.policy, batch.valid
        evaluation = policy.evaluate(batch.inputs, batch.actions, batch.is_first, batch.initial_state)
        surrogate = clipped_policy_loss(evaluation.log_probs, batch.log_probs, batch.advantages, valid, clip_coef)
        values = (evaluation.values.detach() - policy.return_centre) / policy.return_scale
        huber = config.value_loss == "huber"
        value = clipped_value_loss(values, batch.values, batch.targets, valid, config.clip_vloss, huber=huber)
        entropy = entropy_loss(evaluation.entropies, valid)
        terms = {
            "policy_gradient_loss": Term(evaluation.log_probs, *surrogate[:2]),
            "value_loss": Term(evaluation.values, value.value, value.gradient / policy.return_scale, config.vf_coef),
            "entropy_loss": Term(evaluation.entropies, *entropy, ent_coef),
        }
        if self.bonus is not None and batch.bonus_targets is not None:
            values = self.bonus.values(evaluation.critic_features)
            of_bonus = clipped_value_loss(values.detach(), None, batch.bonus_targets, valid, None, huber=huber)
            terms["bonus_value_loss"] = Term(values, *of_bonus, config.vf_coef)
        told = {"approx_kl": surrogate.approx_kl, "clip_fraction": surrogate.clip_fraction}
        metrics = self._descent.step(terms, f"update {self.num_updates}", told=told, share=share)
        return metrics, surrogate.ratio_error

    def _values_to_begin_at(self, steps: StepsOfAll) -> float | None:
        """Return the value that untrained values should begin at, or None where they stay as they are."""
        if self.config.value_bias == "zero" or self.num_updates or self.policy.values_have_moved:
            return None
        ends = steps.credit_cuts & steps.terminated
        return expected_return(steps.rewards, ends, steps.valid, gamma=self.config.gamma) or None  # They are at 0.

    def _update_normalisers(self, rollout: Rollout, steps: StepsOfAll) -> None:
        sums, self._return_sums = discounted_sums(
            steps.rewards, steps.credit_cuts, self._return_sums, self.config.gamma
        )
        self.policy.update_normalisers(rollout.inputs.observations, steps.rewards, steps.valid, sums, self.ranks)
        if self.bonus is not None:
            self.bonus.update_normalisers(rollout)


def _make_bonus(policy: RecurrentPolicy, config: PPOConfig, num_envs: int) -> Bonus | None:
    if config.exploration == "none":
        return None
    return Bonus(
        policy,
        num_envs,
        kind=config.exploration,
        gamma=config.bonus_gamma,
        gae_lambda=config.gae_lambda,
        credit=config.bonus_credit,
        learning_rate=config.bonus_learning_rate,
        max_grad_norm=config.max_grad_norm,
    )
