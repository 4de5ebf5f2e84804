"""What a teacher's losses are worth, and their gradients, by hand and by autograd."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.losses.teacher_losses import cross_entropy, squared_error
from rlstm.policies.distributions import make_distribution

NAN = math.nan


def distribution(space):
    return make_distribution(space, squash=False, scale=True, initial_log_std=0.0)


def test_squared_errors_are_weighted_means_over_what_is_asked() -> None:
    outputs = torch.tensor([[[1.0, 2.0], [5.0, 5.0]], [[0.0, 0.0], [3.0, 1.0]]], dtype=torch.float64)
    targets = torch.tensor([[[0.0, 0.0], [NAN, NAN]], [[NAN, NAN], [2.0, 1.0]]], dtype=torch.float64)
    weights = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    loss = squared_error(outputs, targets, weights)
    assert float(loss.value) == (3 * (1 + 4) / 2 + 1 * (1 + 0) / 2) / 4
    assert loss.errors.tolist() == [[2.0, 0.0], [0.0, 1.0]]
    expected = [[[2 * 3 * 1 / 8, 2 * 3 * 2 / 8], [0, 0]], [[0, 0], [2 * 1 / 8, 0]]]
    assert loss.gradient.tolist() == expected


def test_the_cross_entropy_of_a_class_is_minus_its_log_probability() -> None:
    one = distribution(spaces.Discrete(3))
    outputs = torch.tensor([[[0.0, math.log(2), 0.0], [9.0, 0.0, 0.0]]], dtype=torch.float64)
    targets = torch.stack([one.targets(np.array([1, 2]))])
    loss = cross_entropy(one, outputs, targets, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert float(loss.value) == pytest.approx(math.log(2))
    assert loss.gradient[0, 0].tolist() == pytest.approx([0.25, -0.5, 0.25])
    assert not loss.gradient[0, 1].any()
    assert loss.errors.tolist() == [[0.0, 0.0]]  # The second is wrong, but it isn't asked.


def test_cross_entropies_are_weighted_means() -> None:
    one = distribution(spaces.Discrete(2))
    outputs = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]], dtype=torch.float64)
    targets = torch.stack([one.targets(np.array([0, 0]))])
    loss = cross_entropy(one, outputs, targets, torch.tensor([[3.0, 1.0]], dtype=torch.float64))
    assert float(loss.value) == pytest.approx((3 * math.log(2) + math.log(4 / 3)) / 4)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2] * 4), spaces.MultiBinary(4)])
def test_a_set_of_symbols_costs_the_sum_over_its_bits(space: spaces.Space) -> None:
    one = distribution(space)
    bits = np.array([[1, 0, 0, 1], [0, 1, 1, 1]], dtype=np.int8)
    targets = one.targets(bits)[None]
    outputs = torch.zeros_like(targets)
    loss = cross_entropy(one, outputs, targets, torch.ones(1, 2, dtype=torch.float64))
    assert float(loss.value) == pytest.approx(4 * math.log(2))
    right = cross_entropy(one, 30 * targets, targets, torch.ones(1, 2, dtype=torch.float64))
    assert float(right.value) < 1e-9
    assert right.errors.tolist() == [[0.0, 0.0]]
    one_wrong = targets.clone()
    one_wrong[0, 1] = one.targets(1 - bits[1:])[0]
    assert cross_entropy(one, one_wrong, targets, torch.ones(1, 2)).errors.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1, 1, (2,))]
)
def test_gradients_are_those_of_the_losses_and_nothing_that_is_not_asked_enters(space: spaces.Space) -> None:
    one = distribution(space).double()
    space.seed(0)
    rng = np.random.default_rng(0)
    targets = one.targets(np.stack([space.sample() for _ in range(10)])).view(5, 2, -1)
    outputs = torch.from_numpy(rng.normal(size=targets.shape))
    weights = torch.from_numpy(rng.random((5, 2)) * (rng.random((5, 2)) < 0.6))
    losses = [lambda y: cross_entropy(one, y, targets, weights), lambda y: squared_error(y, targets, weights)]
    for loss in losses:
        found = loss(outputs).gradient
        for place in range(outputs.numel()):
            moved = [outputs.clone(), outputs.clone()]
            for sign, copy in zip((1, -1), moved, strict=True):
                copy.view(-1)[place] += sign * 1e-6
            slope = (loss(moved[0]).value - loss(moved[1]).value) / 2e-6
            assert float(found.view(-1)[place]) == pytest.approx(float(slope), abs=1e-8)
        elsewhere = outputs.clone()
        elsewhere[weights == 0] = 7.0
        assert torch.equal(loss(elsewhere).value, loss(outputs).value)
