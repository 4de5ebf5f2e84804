"""Claims about `rlstm.inspection.diagnostics`: the metrics are those of the gates, and no reset is crossed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.inspection.diagnostics import LAGS, Sample, gradient_metrics, memory_metrics
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy

STEPS, ENVS = 12, 3


def made(cell="lstm", **settings):
    torch.manual_seed(0)
    config = PolicyConfig(
        cell=cell, hidden_size=4, encoder_sizes=(), normalize_observations=False, scale_rewards=False, **settings
    )
    space = spaces.Box(-1, 1, (2,))
    return RecurrentPolicy(space, spaces.Discrete(2), config, MemoryConfig(), InputsConfig()).double()


def sampled(policy, *, resets=(), valid=STEPS):
    torch.manual_seed(1)
    inputs = PolicyInputs(torch.randn(STEPS, ENVS, 2).double())
    is_first = torch.zeros(STEPS, ENVS, dtype=torch.bool)
    is_first[list(resets)] = True
    is_valid = torch.arange(STEPS).unsqueeze(1).expand(-1, ENVS) < valid
    actions = torch.randint(0, 2, (STEPS, ENVS))
    return Sample(inputs, actions, is_first, is_valid, policy.init_state(ENVS))


def test_gates_that_are_known_give_their_numbers():
    policy = made()
    with torch.no_grad():
        for parameter in policy.actor.cell.parameters():
            parameter.zero_()
        forget = math.log(0.75 / 0.25)
        policy.actor.cell.bias_ih.copy_(torch.tensor([40.0] * 4 + [forget] * 4 + [0.0] * 4 + [0.0] * 4))
    found = memory_metrics(policy, sampled(policy))
    assert found["recurrent/forget_gate_mean"] == pytest.approx(0.75)
    assert found["recurrent/forget_gate_q10"] == found["recurrent/forget_gate_q90"] == pytest.approx(0.75)
    assert found["recurrent/time_scale_median"] == found["recurrent/time_scale_max"] == pytest.approx(4.0)
    assert (found["recurrent/input_gate_saturated"], found["recurrent/forget_gate_saturated"]) == (1.0, 0.0)
    assert found["recurrent/output_gate_mean"] == pytest.approx(0.5)
    assert found["recurrent/dead_units"] == 1.0  # Nothing enters, so no output ever moves.


def test_units_that_do_not_move_are_dead_and_idle_steps_do_not_count():
    policy = made()
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(policy.actor.cell, name).view(4, 4, -1)[2, 1] = 0.0  # The cell input of unit 1.
    found = memory_metrics(policy, sampled(policy))
    assert found["recurrent/dead_units"] == 0.25
    sample = sampled(policy, valid=6)
    other = sample.inputs.observations.clone()
    other[6:] = 100.0
    assert memory_metrics(policy, sample) == memory_metrics(policy, sample._replace(inputs=PolicyInputs(other)))
    assert memory_metrics(policy, sample) != memory_metrics(policy, sampled(policy))


@pytest.mark.parametrize(
    ("cell", "gates"),
    [("gru", {"reset", "forget"}), ("ln_gru", {"reset", "forget"}), ("elman", set()), ("min_gru", {"forget"})],
)
def test_every_cell_has_the_metrics_of_its_gates(cell, gates):
    policy = made(cell)
    found = memory_metrics(policy, sampled(policy))
    assert {name.removeprefix("recurrent/").removesuffix("_gate_mean") for name in found if "_mean" in name} == gates
    assert all(math.isfinite(value) for value in found.values())
    assert "recurrent/dead_units" in found


def test_without_a_memory_there_is_nothing_to_tell():
    policy = made("none")
    assert memory_metrics(policy, sampled(policy)) == {} or "recurrent/dead_units" in memory_metrics(
        policy, sampled(policy)
    )


def test_layers_are_told_apart():
    policy = made(num_layers=2)
    found = memory_metrics(policy, sampled(policy))
    assert {"recurrent/layer0.forget_gate_mean", "recurrent/layer1.time_scale_median"} <= found.keys()


def test_gradients_by_lag_are_those_of_autograd_and_cross_no_reset():
    policy = made()
    sample = sampled(policy, resets=(0, 5), valid=9)
    found = gradient_metrics(policy, sample)
    sums = {lag: [] for lag in LAGS}
    for t in range(9):
        seen = sample.inputs.observations[:9, :1].clone().requires_grad_()
        result = policy.evaluate(
            PolicyInputs(seen), sample.actions[:9, :1], sample.is_first[:9, :1], policy.init_state(1)
        )
        (gradient,) = torch.autograd.grad(result.log_probs[t, 0], seen)
        for s in range(t + 1):
            if (s >= 5) == (t >= 5):
                sums[max(lag for lag in LAGS if lag <= t - s)].append(float(gradient[s, 0].norm()))
            else:
                assert not gradient[s].any()
    expected = {f"recurrent/gradient_lag_{lag}": np.mean(norms) for lag, norms in sums.items() if norms}
    assert found == pytest.approx(expected)
    assert max(int(name.rpartition("_")[2]) for name in found) == 4  # No pair is more than 4 steps apart.


def test_one_step_has_no_lag():
    policy = made()
    assert gradient_metrics(policy, sampled(policy, valid=1)) == {}
