"""The floor: an agent that never learns. What it reaches, an env gives away.

Choices are uniform, and so are numbers between finite bounds; others are standard normal in the policy's units.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from rlstm.agents.configs.random_agent import RandomConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect
from rlstm.rollouts.rollout import Rollout
from rlstm.training.on_policy import Training
from rlstm.vector.adapter import VectorEnvs


class RandomAgent:
    """Acts and never learns. Arguments as those of ``rlstm.agents.ppo.PPO``."""

    run_type = Training
    begins_anew = False
    reads_onward = False
    overlap = None

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: RandomConfig,
        *,
        num_envs: int,
        total_steps: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        self.policy = policy
        self.config = config
        with torch.no_grad():  # Equal logits, whatever the features.
            for parameter in cast(nn.Linear, policy.policy_head[-1]).parameters():
                parameter.zero_()

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play ``num_steps`` steps in every env."""
        return collect(self.policy, envs, collector_state, self.config.num_steps)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn nothing."""
        return {}

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Leave the carried state: the weights have not changed."""
        return {}

    def begin(self) -> None:
        """Forget nothing: nothing is carried."""

    def state_dict(self) -> dict[str, Any]:
        """Return the action generator's state."""
        return {"action_generator": self.policy.generator.get_state()}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load it."""
        self.policy.generator.set_state(values["action_generator"])
