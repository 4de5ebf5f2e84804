"""A policy's weights: taken from a checkpoint, and the same in all ranks."""

from __future__ import annotations

import dataclasses

from rlstm.core.errors import CheckpointError, RankFailure
from rlstm.core.ranks import Ranks
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.checkpoints import MODEL_FILE, Checkpoint
from rlstm.training.config import ConfigError

_DECIDED_BY = {
    "return_moments": "scale_rewards (or popart)",
    "value_moments": "popart",
    "reward_moments": "normalize_observations and inputs.previous_reward",
    "encoder.moments": "normalize_observations",
    "critic.": "critic_memory",
    "encoder.": "encoder_sizes (or the env and inputs)",
    "cell.": "cell, hidden_size, num_layers (or bidirectional)",
    "head.": "head_sizes, hidden_size (or the env's actions)",
}
"""What decides whether a policy has a tensor, and how large it is, by a part of its name; the first that fits."""

_OF_VALUES = ("value_head.", "critic.", "return_moments.", "value_moments.")
"""How the names of tensors begin that values alone depend on."""


def load_weights(policy: RecurrentPolicy, checkpoint: Checkpoint) -> None:
    """Load the weights and normalisers of a checkpoint.

    Raises:
        ConfigError: If they are those of another network, naming the first difference.
        CheckpointError: If one is not finite.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.model.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{checkpoint.path} holds another network: '{name}' is {found.get(name, 'missing')} there and "
                f"{expected.get(name, 'missing')} here. Use the policy settings, env and inputs it was made with"
                f"{_hint(name)}."
            )
    for name, tensor in checkpoint.model.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{checkpoint.path / MODEL_FILE} holds what is not finite: '{name}'. Name another checkpoint."
            )
    policy.load_state_dict(checkpoint.model)


def without_values(policy: RecurrentPolicy, checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose value head, critic and statistics of returns are the policy's own as they are now."""
    model = {name: tensor for name, tensor in checkpoint.model.items() if not name.startswith(_OF_VALUES)}
    own = {name: tensor.clone() for name, tensor in policy.state_dict().items() if name.startswith(_OF_VALUES)}
    return dataclasses.replace(checkpoint, model=model | own)


def _hint(name: str) -> str:
    """Return which settings decide over a tensor."""
    settings = next((text for part, text in _DECIDED_BY.items() if part in name), None)
    return "" if settings is None else f": this one is decided by {settings}"


def check_same_weights(policy: RecurrentPolicy, ranks: Ranks, step: int) -> None:
    """Refuse to go on if ranks have come apart: the sums of their weights differ.

    Raises:
        RankFailure: If they do.
    """
    if ranks.is_alone:
        return
    sums = ranks.gather(sum(float(tensor.double().sum()) for tensor in policy.state_dict().values()))
    if len(set(map(repr, sums))) > 1:
        raise RankFailure(
            f"The weights of {ranks.count} ranks differ at step {step:,}: their sums are {sums}. Ranks "
            "must compute alike: use machines of one kind, with the same versions."
        )
