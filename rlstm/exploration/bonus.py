"""The bonus of a rollout: rewards for what is new, their values, and the advantages that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.core.trees import Tree, tree_map
from rlstm.exploration.novelty import Novelty
from rlstm.exploration.visits import EpisodicVisits
from rlstm.losses.optimisation import Descent, Term
from rlstm.losses.returns import discounted_sums, gae
from rlstm.policies.layers import linear
from rlstm.policies.normalisers import RunningMoments
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.rollout import Onward, Rollout

_PRESENT_NOVELTY = 0.5  # α of NovelD: the share of the present observation's novelty that the next one must exceed.


class BonusReturns(NamedTuple):
    """What a rollout's bonus is worth, ``(T, B)``, in deviations of its discounted sums."""

    advantages: Tensor
    targets: Tensor  # Of the bonus's values.


class Bonus(nn.Module):
    """A bonus for what is new, learnt beside a policy and no part of it.

    - rnd: b_t = ‖g(o_{t+1}) - f(o_{t+1})‖² (Burda et al. 2018, arXiv 1810.12894).
    - noveld: b_t = max(n(o_{t+1}) - α n(o_t), 0), n the root of that, α = ½; 0 unless the episode shows o_{t+1} for the
      first time (Zhang et al. 2021, NovelD; the count is of hashed observations).

    o_{t+1} is what step t led to, at the end of an episode its last observation. The bonus is divided by the running
    deviation of its discounted sums. It has a value head of its own on the critic's memory, trained with the policy,
    and a discount of its own; credit for it ends where ``credit`` says. Every observation trains the predictor
    once. All of it is left out where the policy is evaluated.

    Args:
        policy: Whose observations are judged.
        num_envs: Environments B of every rollout.
        kind: The formula.
        gamma: Discount a step.
        gae_lambda: λ of its advantages.
        credit: Where its returns are cut: where those of the env's rewards are (memory), or nowhere (lifelong).
        learning_rate: Adam's step size for the predictor.
        max_grad_norm: Largest norm of the predictor's gradient.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        num_envs: int,
        *,
        kind: Literal["rnd", "noveld"],
        gamma: float,
        gae_lambda: float,
        credit: Literal["memory", "lifelong"],
        learning_rate: float,
        max_grad_norm: float,
    ) -> None:
        super().__init__()
        self.gamma, self.gae_lambda, self.credit = gamma, gae_lambda, credit
        self.novelty = Novelty(policy.observation_space, policy.config)
        *_, trunk = policy.trunks()
        self.value_head = linear(trunk.cell.output_size, 1, gain=1.0)
        self.moments = RunningMoments(1)
        self.to(device=policy.device, dtype=policy.dtype)
        self.visits = EpisodicVisits() if kind == "noveld" else None
        self._sums = torch.zeros(num_envs, dtype=policy.dtype, device=policy.device)
        self._begins = torch.ones(num_envs, dtype=torch.bool, device=policy.device)  # An episode, with the next step.
        self._starts, self._first_visits = self._begins, self._begins  # (T, B) of the rollout that was taken in.
        self._descent = Descent(self.novelty.predictor.named_parameters(), max_grad_norm=max_grad_norm)
        self._descent.learning_rate = learning_rate

    @property
    def lacks_statistics(self) -> bool:
        """Whether the normaliser of observations has seen nothing yet."""
        moments = self.novelty.moments
        return moments is not None and float(moments.count) == 0

    def values(self, features: Tensor) -> Tensor:
        """Return values ``(...)`` of the bonus to come, from the features ``(..., H)`` that the critic reads."""
        values: Tensor = self.value_head(features).squeeze(-1)
        return values

    def take_in(self, rollout: Rollout) -> None:
        """Take in where a rollout's episodes begin, and what they show; once for each rollout, before all else.

        Raises:
            ValueError: If the rollout was collected without what it led to.
        """
        if rollout.onward is None:
            raise ValueError("A bonus is for what a rollout led to: collect it with onward=True.")
        ends = rollout.terminated | rollout.truncated
        self._starts = torch.cat([self._begins.unsqueeze(0), ends[:-1]])
        self._begins = ends[-1]
        if self.visits is not None:
            seen, after = rollout.inputs.observations, rollout.onward.next_observations
            first = self.visits.first_visits(seen, after, ends.numpy(force=True))
            self._first_visits = torch.from_numpy(first).to(ends.device)

    @torch.no_grad()
    def returns(self, policy: RecurrentPolicy, rollout: Rollout) -> tuple[BonusReturns, dict[str, float]]:
        """Return what a rollout's bonus is worth, and metrics by name.

        Args:
            policy: With the weights that acted.
            rollout: What was taken in.
        """
        assert rollout.onward is not None
        bonus = self._bonus(rollout, rollout.onward, policy.dtype)
        cuts = rollout.credit_cuts if self.credit == "memory" else torch.zeros_like(rollout.credit_cuts)
        sums, self._sums = discounted_sums(bonus, cuts, self._sums, self.gamma)
        self.moments.update(sums.flatten().unsqueeze(-1))
        variance = self.moments.variance[0]
        normalised = bonus / torch.where(variance > 0, (variance + 1e-8).sqrt(), 1.0).to(bonus)
        features, state = policy.critic_features(rollout.inputs, rollout.is_first, rollout.initial_state[-1])
        inputs = tree_map(lambda leaf: leaf.unsqueeze(0), rollout.onward.inputs)
        last, _ = policy.critic_features(inputs, rollout.onward.is_first.unsqueeze(0), state)
        values = self.values(torch.cat([features, last]))
        next_values = values[1:].masked_fill(cuts, 0.0)
        values = values[:-1]
        advantages = gae(normalised, values, next_values, cuts, gamma=self.gamma, gae_lambda=self.gae_lambda)
        metrics = {
            "exploration/bonus_mean": float(bonus.mean()),
            "exploration/bonus_max": float(bonus.max()),
            "exploration/bonus_scale": float(variance.sqrt()),
        }
        return BonusReturns(advantages, advantages + values), metrics

    def learn(self, rollout: Rollout, parts: Sequence[Tensor], place: str) -> dict[str, float]:
        """Train the predictor on all that was seen, a step for each part of the envs ``(N,)``."""
        losses = []
        for envs in parts:
            seen = self._seen(rollout, envs)
            prediction, target = self.novelty.prediction(seen, rollout.rewards.dtype)
            errors = prediction.detach() - target
            loss = errors.square().mean()
            term = Term(prediction, loss, errors * (2 / errors.numel()))
            self._descent.step({"novelty_loss": term}, place)
            losses.append(loss)
        return {"exploration/novelty_loss": float(torch.stack(losses).mean())}

    def update_normalisers(self, rollout: Rollout) -> None:
        """Take all that was seen into the statistics, once per update, after the last epoch."""
        envs = torch.arange(rollout.num_envs, device=rollout.rewards.device)
        self.novelty.update_normalisers(self._seen(rollout, envs), rollout.rewards.dtype)

    def begin(self) -> None:
        """Forget what is carried for each env: all are reset."""
        self._sums, self._begins = torch.zeros_like(self._sums), torch.ones_like(self._begins)
        if self.visits is not None:
            self.visits.forget()

    def state(self) -> dict[str, Any]:
        """Return everything: weights, statistics, the optimiser, and what is carried for each env."""
        return {
            "weights": self.state_dict(),
            "optimizer": self._descent.state_dict(),
            "sums": self._sums,
            "begins": self._begins,
            "visits": None if self.visits is None else self.visits.state_dict(),
        }

    def load_state(self, values: dict[str, Any]) -> None:
        """Load what ``state`` returned."""
        self.load_state_dict(values["weights"])
        self._descent.load_state_dict(values["optimizer"])
        self._sums, self._begins = values["sums"].to(self._sums), values["begins"].to(self._begins)
        if self.visits is not None:
            self.visits.load_state_dict(values["visits"])

    def _bonus(self, rollout: Rollout, onward: Onward, dtype: torch.dtype) -> Tensor:
        """Return the bonus of every step, ``(T, B)``."""
        errors: Tensor = self.novelty(onward.next_observations, dtype)
        if self.visits is None:
            return errors
        present: Tensor = self.novelty(rollout.inputs.observations, dtype).sqrt()
        gained = (errors.sqrt() - _PRESENT_NOVELTY * present).clamp(min=0.0)
        return gained * self._first_visits

    def _seen(self, rollout: Rollout, envs: Tensor) -> Tree:
        """Return what some envs ``(N,)`` showed, ``(M, ...)``: after each step, and where an episode began."""
        assert rollout.onward is not None
        starts = self._starts.index_select(1, envs)

        def rows(before: Tensor, after: Tensor) -> Tensor:
            return torch.cat([after.index_select(1, envs).flatten(0, 1), before.index_select(1, envs)[starts]])

        return tree_map(rows, rollout.inputs.observations, rollout.onward.next_observations)
