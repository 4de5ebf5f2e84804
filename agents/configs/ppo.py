"""Settings of proximal policy optimisation, ``rlstm.agents.ppo``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from rlstm.core.ranges import AtLeast, Between, NotNegative, Positive, check_ranges
from rlstm.core.searched import Among, Within
from rlstm.training.config import AgentConfig


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """Recurrent proximal policy optimisation."""

    acts_by = "sampled"

    num_steps: Annotated[int, AtLeast(1), Among(32, 64, 128, 256)] = 128
    """Steps T of a rollout in each environment."""

    num_minibatches: Annotated[int, AtLeast(1), Among(1, 2, 4, 8)] = 4
    """Minibatches an epoch; each holds whole sequences, so this must divide their number."""

    sequence_length: Annotated[int | None, AtLeast(1)] = None
    """Steps of the sequences that minibatches are made of: those of a trial, for instance, where a rollout holds
    several. Each must begin where memory begins. Default: a rollout, one sequence for each environment."""

    update_epochs: Annotated[int, AtLeast(1), Among(2, 4, 8)] = 4
    """Passes over a rollout."""

    learning_rate: Annotated[float, Positive, Within(1e-4, 1e-2, log=True)] = 1e-3
    """Adam's step size."""

    anneal_lr: bool = True
    """Lower the learning rate linearly to 0 over the run."""

    desired_kl: Annotated[float | None, Positive] = None
    """Adapt the learning rate: divide it by 1.5 after an update whose KL estimate ends above twice this, multiply it
    by 1.5 after one that ends below half of it. Needs --no-anneal-lr."""

    weight_decay: Annotated[float, NotNegative] = 0.0
    """Decoupled weight decay (AdamW): with each step weights shrink by this times the learning rate."""

    gamma: Annotated[float, Between(0, 1), Among(0.9, 0.95, 0.98, 0.99, 0.995, 0.999)] = 0.99
    """Discount a step."""

    gae_lambda: Annotated[float, Between(0, 1), Within(0.8, 1.0)] = 0.95
    """λ of the advantage estimate; 1 gives Monte Carlo returns."""

    advantages: Literal["gae", "vtrace"] = "gae"
    """How advantages are estimated: by GAE, or by V-trace, which corrects for the weights that acted, and is GAE where
    these are the ones that learn."""

    vtrace_rho: Annotated[float, Positive] = 1.0
    """Largest importance ratio ρ̄ of V-trace with which an error counts: decides what values are learnt."""

    vtrace_c: Annotated[float, Positive] = 1.0
    """Largest importance ratio c̄ of V-trace with which later errors flow back; at most vtrace_rho."""

    overlap: bool = False
    """Collect the next rollout while this one is learnt from, with the weights from before: pays where envs wait for
    something, not where they compute in Python. Rollouts are then one update old: needs V-trace for advantages."""

    clip_coef: Annotated[float, Positive, Among(0.1, 0.2, 0.3)] = 0.2
    """Half width ε of the clipped ratio."""

    final_clip_coef: Annotated[float | None, Positive] = None
    """Its value at the end of the run, reached linearly. Default: the same."""

    clip_vloss: float | None = None
    """Clip the value's change to this range, in the critic's units. Default: no clipping."""

    norm_adv: bool = True
    """Normalise advantages in each minibatch."""

    ent_coef: Annotated[float, Within(1e-4, 0.1, log=True)] = 0.01
    """Weight of the entropy bonus."""

    final_ent_coef: float | None = None
    """Its weight at the end of the run, reached linearly. Default: the same."""

    vf_coef: float = 0.5
    """Weight of the value loss."""

    value_loss: Literal["squared", "huber"] = "squared"
    """Of the critic's errors: half their square, or Huber's, which grows linearly from one deviation of returns on."""

    value_bias: Literal["zero", "returns"] = "returns"
    """Where values begin: at 0, or at the mean return that the first rollout lets expect, which then trains nothing."""

    max_grad_norm: Annotated[float, Positive] = 0.5
    """Largest global norm of the gradient."""

    target_kl: float | None = None
    """End the epochs once the KL estimate passes 1.5 times this. Default: never."""

    refresh_states: bool = True
    """Replay the rollout with the new weights, so that the carried state is theirs."""

    exploration: Literal["none", "rnd", "noveld"] = "none"
    """Bonus for what is new: how badly the next observation is predicted (random network distillation), or by how much
    worse than the present one, at its first visit in an episode (NovelD)."""

    bonus_coef: Annotated[float, NotNegative] = 1.0
    """Weight of the bonus beside the env's rewards, both in deviations of their returns."""

    final_bonus_coef: Annotated[float | None, NotNegative] = None
    """Its weight at the end of the run, reached linearly. Default: the same."""

    bonus_gamma: Annotated[float, Between(0, 1)] = 0.99
    """Discount a step of the bonus."""

    bonus_credit: Literal["memory", "lifelong"] = "memory"
    """Where returns of the bonus are cut: where those of the env's rewards are, time limits too, or nowhere, as in
    RND."""

    bonus_learning_rate: Annotated[float, Positive] = 1e-4
    """Adam's step size for the network that predicts; a slower one calls things new for longer."""

    def rehearsed(self) -> PPOConfig:
        """Return the settings for whole rollouts, in one minibatch where their number may not divide the envs."""
        config = replace(self, overlap=False) if self.overlap else self
        if self.sequence_length is None:
            return config
        return replace(config, sequence_length=None, num_minibatches=1)

    def check_run(self, *, num_envs: int, num_ranks: int, lifelong: bool) -> None:
        """Refuse what doesn't fit the envs, the ranks and the memory of a run.

        Args:
            num_envs: Environments B of every rollout, those of all ranks.
            num_ranks: How many processes share them.
            lifelong: Whether memory never ends.

        Raises:
            ValueError: If the minibatches don't divide the sequences of a rollout, or memory never ends and these are
                shorter than it, or there are several ranks and something that is one process's.
        """
        num_sequences = num_envs * (self.num_steps // (self.sequence_length or self.num_steps))
        if num_sequences % self.num_minibatches:
            divisors = [count for count in range(1, num_sequences + 1) if num_sequences % count == 0]
            of = f"num_envs {num_envs}" if num_sequences == num_envs else f"the {num_sequences} sequences of a rollout"
            raise ValueError(
                f"num_minibatches is {self.num_minibatches}, which does not divide {of}: a minibatch holds whole "
                f"sequences. Use one of {', '.join(map(str, divisors))}, or another num_envs."
            )
        if lifelong and self.sequence_length not in (None, self.num_steps):
            raise ValueError(
                f"sequence_length is {self.sequence_length}, but memory is lifelong and never begins anew inside a "
                f"rollout of {self.num_steps} steps: leave sequence_length out, or let memory end with a trial."
            )
        if num_ranks == 1:
            return
        if self.exploration != "none":
            raise ValueError(
                f"exploration is '{self.exploration}', whose statistics are one process's, but there are "
                f"{num_ranks} ranks: leave it out, or train without torchrun."
            )
        if self.overlap:
            raise ValueError(
                f"overlap is set, but there are {num_ranks} ranks, whose messages a thread that collects beside them "
                "would disturb: leave it out, or train without torchrun."
            )

    def __post_init__(self) -> None:
        """Refuse values out of range, and pairs that contradict each other."""
        check_ranges(self)
        if self.desired_kl is not None and self.anneal_lr:
            raise ValueError(
                f"desired_kl is {self.desired_kl}, which adapts the learning rate, but anneal_lr lowers it too: add "
                "--no-anneal-lr, or leave desired_kl out."
            )
        if self.sequence_length is not None and self.num_steps % self.sequence_length:
            raise ValueError(
                f"sequence_length is {self.sequence_length}, which does not divide num_steps {self.num_steps}: a "
                "rollout is cut into whole sequences. Use a divisor, or num_steps that are a multiple."
            )
        if self.vtrace_c > self.vtrace_rho:
            raise ValueError(
                f"vtrace_c is {self.vtrace_c}, which is larger than vtrace_rho {self.vtrace_rho}: V-trace is a "
                "contraction only up to it. Lower vtrace_c, or raise vtrace_rho."
            )
        if self.advantages != "vtrace" and self.overlap:
            raise ValueError(
                f"overlap is set, by which rollouts are one update old, but advantages are '{self.advantages}', which "
                "takes them for new ones: add --advantages vtrace, or leave overlap out."
            )
        if self.advantages == "vtrace" and self.exploration != "none":
            raise ValueError(
                f"advantages are 'vtrace', but exploration is '{self.exploration}', whose bonus has advantages of its "
                "own that V-trace doesn't correct: leave one of the two out."
            )
