"""V-trace against tables worked out by hand, against its definition as a sum, and against GAE.

The tables use γ = 1/2 and λ = 1/2, so that every number is exact in binary.
"""

import pytest
import torch

from rlstm.losses.returns import gae, vtrace

REWARDS = [1.0, 2.0, 3.0, 4.0]
VALUES = [8.0, 6.0, 4.0, 2.0]
END = 10.0  # V of the observation after the last step.
FINAL = 20.0  # V of the final observation of a truncated episode, with the memory of that episode.
RATIOS = [2.0, 0.5, 1.0, 4.0]


def column(numbers):
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def following(ends):
    """The next values where some steps end an episode with a given bootstrap."""
    return [ends.get(t, value) for t, value in enumerate([*VALUES[1:], END])]


def estimate(ends, cuts=None, ratios=RATIOS, gae_lambda=0.5, rho_bar=1.0, c_bar=1.0):
    """Advantages, and the targets' differences from the values."""
    mask = torch.tensor([[t in (ends if cuts is None else cuts)] for t in range(4)])
    columns = column(REWARDS), column(VALUES), column(following(ends)), mask, column(ratios)
    advantages, targets = vtrace(*columns, gamma=0.5, gae_lambda=gae_lambda, rho_bar=rho_bar, c_bar=c_bar)
    return advantages.squeeze(1).tolist(), (targets - column(VALUES)).squeeze(1).tolist()


# Errors r + v'/2 - v are -4, -2, 0, 7 without an end. With both bounds 1 the ratios are 1, 1/2, 1, 1, and A is e:
# e_3 = 7, e_2 = 0 + 7/4, e_1 = (-2)/2 + (1/4)(1/2)(7/4), e_0 = -4 + e_1/4.
TABLES = {
    "no end": ({}, [-4.1953125, -0.78125, 1.75, 7]),
    # An error of 1 + 0 - 8 = -7.
    "terminated first": ({0: 0.0}, [-7, -0.78125, 1.75, 7]),
    # Of 2 + 0 - 6 = -4, which counts half.
    "terminated in the middle": ({1: 0.0}, [-4.5, -2, 1.75, 7]),
    # Of 4 + 0 - 2 = 2: e_2 = 1/2, e_1 = -1 + 1/16.
    "terminated last": ({3: 0.0}, [-4.234375, -0.9375, 0.5, 2]),
    # Of 1 + 10 - 8 = 3.
    "truncated first": ({0: FINAL}, [3, -0.78125, 1.75, 7]),
    # Of 2 + 10 - 6 = 6, which counts half.
    "truncated in the middle": ({1: FINAL}, [-3.25, 3, 1.75, 7]),
    # Of 4 + 10 - 2 = 12: e_2 = 3, e_1 = -1 + 3/8.
    "truncated last": ({3: FINAL}, [-4.15625, -0.625, 3, 12]),
    "one-step episodes, terminated": (dict.fromkeys(range(4), 0.0), [-7, -2, -1, 2]),
    "one-step episodes, truncated": (dict.fromkeys(range(4), FINAL), [3, 3, 9, 12]),
}


@pytest.mark.parametrize(("ends", "expected"), TABLES.values(), ids=TABLES)
def test_with_both_bounds_one_estimates_are_those_worked_out_by_hand(ends, expected):
    assert estimate(ends) == (expected, expected)


def test_a_larger_bound_of_errors_makes_advantages_and_targets_differ():
    """ρ is 2, 1/2, 1, 2 and c 1, 1/2, 1, 1: e_3 = 14, e_2 = 14/4, e_1 = -1 + e_2/8, e_0 = -8 + e_1/4."""
    advantages, changes = estimate({}, rho_bar=2.0)
    assert changes == [-8.140625, -0.5625, 3.5, 14]
    assert advantages == [2 * (-4 - 0.5625 / 4), (-2 + 3.5 / 4) / 2, 3.5, 14]


def test_a_smaller_bound_of_what_flows_back_leaves_the_last_advantages():
    """c is 1/2 everywhere: e_3 = 7, e_2 = 7/8, e_1 = -1 + e_2/8, e_0 = -4 + e_1/8."""
    advantages, changes = estimate({}, c_bar=0.5)
    assert changes == [-4 - 0.890625 / 8, -0.890625, 0.875, 7]
    assert advantages == [-4 - 0.890625 / 4, (-2 + 0.875 / 4) / 2, 1.75, 7]


def test_a_ratio_of_zero_leaves_the_value_and_lets_nothing_through():
    advantages, changes = estimate({}, ratios=[1.0, 0.0, 1.0, 1.0])
    assert (advantages[1], changes[1]) == (0, 0)
    assert (advantages[0], changes[0]) == (-4, -4)


@pytest.mark.parametrize("step", range(4))
def test_no_other_bootstrap_of_a_truncation_gives_the_same_estimate(step):
    right = estimate({step: FINAL})[0][step]
    for wrong in (VALUES[step], following({})[step], 0.0):
        assert estimate({step: wrong}, cuts={step})[0][step] != right


def test_a_cut_that_is_forgotten_or_one_step_off_gives_other_estimates():
    right = estimate({1: 0.0})
    for cuts in (set(), {0}, {2}):
        assert all(wrong != expected for wrong, expected in zip(estimate({1: 0.0}, cuts), right, strict=True))


def random_steps(num_steps=40, num_envs=3):
    generator = torch.Generator().manual_seed(0)
    shape = num_steps, num_envs
    rewards, values, next_values, logs = (torch.randn(shape, generator=generator).double() for _ in range(4))
    cuts = torch.rand(shape, generator=generator) < 0.2
    next_values[:-1] = torch.where(cuts[:-1], next_values[:-1], values[1:])
    return rewards, values, next_values, cuts, logs.exp()


def definition(rewards, values, next_values, cuts, ratios, gamma, gae_lambda, rho_bar, c_bar, *, variant="right"):
    """Equation 1 as it is written, a sum for each step; or a variant that is wrong."""
    targets = values.clone()
    errors = ratios.clamp(max=torch.inf if variant == "errors are not clipped" else rho_bar)
    errors = errors * (rewards + gamma * next_values - values)
    flows = ratios.clamp(max=torch.inf if variant == "what flows back is not clipped" else c_bar)
    flows = flows * (1.0 if variant == "without lambda" else gae_lambda)
    for lane in range(rewards.shape[1]):
        for s in range(len(rewards)):
            product = 1.0
            for t in range(s, len(rewards)):
                targets[s, lane] += product * errors[t, lane]
                last = cuts[t, lane] and variant != "cuts are ignored"
                late = min(t + 1, len(rewards) - 1) if variant == "the product is a step late" else t
                product *= gamma * flows[late, lane]
                if last:
                    break
    return targets


BOUNDS = [(1.0, 1.0), (2.0, 1.0), (0.7, 0.4), (9.0, 3.0)]


@pytest.mark.parametrize(("rho_bar", "c_bar"), BOUNDS)
@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_targets_are_the_sums_that_define_them(rho_bar, c_bar, gae_lambda):
    steps = random_steps()
    _, targets = vtrace(*steps, gamma=0.9, gae_lambda=gae_lambda, rho_bar=rho_bar, c_bar=c_bar)
    expected = definition(*steps, 0.9, gae_lambda, rho_bar, c_bar)
    torch.testing.assert_close(targets, expected, rtol=0, atol=1e-10)


VARIANTS = ["errors are not clipped", "what flows back is not clipped", "without lambda", "cuts are ignored"]


@pytest.mark.parametrize("variant", [*VARIANTS, "the product is a step late"])
def test_a_wrong_variant_has_other_targets(variant):
    steps = random_steps()
    _, targets = vtrace(*steps, gamma=0.9, gae_lambda=0.7, rho_bar=1.0, c_bar=1.0)
    assert (targets - definition(*steps, 0.9, 0.7, 1.0, 1.0, variant=variant)).abs().max() > 0.1


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_where_the_policy_has_acted_it_is_gae_to_the_last_bit(gae_lambda):
    *steps, ratios = random_steps()
    constants = {"gamma": 0.9, "gae_lambda": gae_lambda}
    advantages, targets = vtrace(*steps, torch.ones_like(ratios), **constants, rho_bar=1.0, c_bar=1.0)
    expected = gae(*steps, **constants)
    assert torch.equal(advantages, expected)
    assert torch.equal(targets, expected + steps[1])


def test_with_lambda_one_an_advantage_looks_at_the_next_target():
    """The advantage of the paper: ρ (r + γ v' - v) where v' is the next step's target, or the bootstrap at a cut."""
    rewards, values, next_values, cuts, ratios = random_steps()
    constants = {"gamma": 0.9, "gae_lambda": 1.0, "rho_bar": 1.5, "c_bar": 1.0}
    advantages, targets = vtrace(rewards, values, next_values, cuts, ratios, **constants)
    after = next_values.clone()
    after[:-1] = torch.where(cuts[:-1], next_values[:-1], targets[1:])
    expected = ratios.clamp(max=1.5) * (rewards + 0.9 * after - values)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-12)


def test_infinite_ratios_count_as_their_bound():
    *steps, ratios = random_steps()
    constants = {"gamma": 0.9, "gae_lambda": 0.7, "rho_bar": 2.0, "c_bar": 1.0}
    large, infinite = (vtrace(*steps, torch.full_like(ratios, size), **constants) for size in (50.0, torch.inf))
    assert all(torch.equal(one, other) for one, other in zip(large, infinite, strict=True))
