"""Policies whose memory reads the time since the step before."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy

TIMED = spaces.Dict({"seen": spaces.Box(-1, 1, (3,)), "wait": spaces.Box(0, np.inf, (1,))})


def make(space: spaces.Space[Any] = TIMED, **config: Any) -> RecurrentPolicy:
    torch.manual_seed(0)
    settings = {"cell": "time_aware_lstm", "hidden_size": 5, "encoder_sizes": (4,), **config}
    policy = RecurrentPolicy(
        space, spaces.Discrete(4), PolicyConfig(**settings), MemoryConfig("lifelong"), InputsConfig()
    ).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return policy


def encode(policy: RecurrentPolicy, observations: Any, is_first: torch.Tensor) -> torch.Tensor:
    rows = is_first.shape
    inputs = PolicyInputs(observations, torch.zeros(rows, dtype=torch.long), torch.zeros(rows), torch.zeros(rows))
    return policy.input_features(policy.actor.encoder, inputs, is_first, policy.reward_scale, policy.dtype)


def test_the_memory_reads_the_observed_time_and_none_where_it_begins() -> None:
    policy = make(elapsed_time="wait")
    is_first = torch.tensor([[True, False, False], [False, True, False]])
    waits = torch.tensor([[5.0, 2.0, 0.5], [1.0, 9.0, -3.0]]).unsqueeze(-1)
    seen = torch.randn(2, 3, 3)
    encoded = encode(policy, {"seen": seen, "wait": waits}, is_first)
    assert encoded.shape == (2, 3, 5)
    assert encoded[..., -1].tolist() == [[0.0, 2.0, 0.5], [1.0, 0.0, 0.0]]
    # The encoder itself reads the rest only.
    other = encode(policy, {"seen": seen, "wait": waits + 1}, is_first)
    assert torch.equal(encoded[..., :-1], other[..., :-1])


def test_without_a_key_every_step_takes_one() -> None:
    policy = make(spaces.Box(-1, 1, (3,)))
    is_first = torch.tensor([[True, False], [False, True]])
    assert encode(policy, torch.randn(2, 2, 3), is_first)[..., -1].tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_acting_and_learning_read_the_same_time(num_layers: int) -> None:
    policy = make(elapsed_time="wait", num_layers=num_layers)
    steps, rows = 7, 3
    observations = {"seen": torch.randn(steps, rows, 3), "wait": 4 * torch.rand(steps, rows, 1)}
    is_first = torch.rand(steps, rows) < 0.3
    state = policy.init_state(rows)
    with torch.no_grad():
        encoded = encode(policy, observations, is_first)
        features, _ = policy.actor.cell.sequence(encoded, state[0], is_first)
        expected = policy.distribution.mode(policy.policy_head(features), None)
    snapshot, acted = policy.acting_snapshot(), []
    nothing = torch.zeros(rows)
    with torch.inference_mode():
        for t in range(steps):
            seen = {key: value[t] for key, value in observations.items()}
            inputs = PolicyInputs(seen, nothing.long(), nothing, nothing)
            actions, state = snapshot.act(inputs, state, is_first[t], deterministic=True)
            acted.append(actions)
    assert torch.equal(torch.stack(acted), expected)
    later = {**observations, "wait": observations["wait"] + 50}
    with torch.no_grad():
        aged, _ = policy.actor.cell.sequence(encode(policy, later, is_first), policy.init_state(rows)[0], is_first)
    assert not torch.allclose(aged, features)


@pytest.mark.parametrize(
    ("space", "config", "message"),
    [
        (TIMED, {"elapsed_time": "delay"}, "elapsed_time is 'delay', which must be a key of the Dict observation"),
        (TIMED, {"elapsed_time": "seen"}, "with one number"),
        (spaces.Box(-1, 1, (3,)), {"elapsed_time": "wait"}, "must be a key of the Dict observation"),
        (TIMED, {"elapsed_time": "wait", "cell": "lstm"}, r"the cell 'lstm' reads no time\. Those that do: time_aware"),
        (TIMED, {"num_layers": 2, "residual": True}, "can be neither residual nor normalised"),
    ],
)
def test_impossible_times_are_refused(space: spaces.Space[Any], config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(space, **config)
