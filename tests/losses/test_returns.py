"""Returns and advantages against tables worked out by hand, and against one another.

The tables use γ = 1/2 and λ = 1/2, so that every number is exact in binary.
"""

import pytest
import torch

from rlstm.losses.returns import discounted_sums, explained_variance, gae, rewards_to_go, steps_since_cut

GAMMA = 0.5
REWARDS = [1.0, 2.0, 3.0, 4.0]
VALUES = [8.0, 6.0, 4.0, 2.0]
END = 10.0  # V of the observation after the last step.
FINAL = 20.0  # V of the final observation of a truncated episode, with the memory of that episode.


def column(numbers):
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def advantages(next_values, cuts, gae_lambda, rewards=REWARDS, values=VALUES, gamma=GAMMA):
    mask = torch.tensor([[t in cuts] for t in range(len(rewards))])
    result = gae(column(rewards), column(values), column(next_values), mask, gamma=gamma, gae_lambda=gae_lambda)
    return result.squeeze(1).tolist()


def following(ends):
    """The next values where some steps end an episode with a given bootstrap."""
    return [ends.get(t, value) for t, value in enumerate([*VALUES[1:], END])]


# Without any end the next values are 6, 4, 2, 10 and δ = r + v'/2 - v is -4, -2, 0, 7.
TABLES = {
    # name: (bootstraps at the cuts, advantages for λ = 0, 1/2, 1)
    "no end": ({}, [-4, -2, 0, 7], [-4.390625, -1.5625, 1.75, 7], [-4.125, -0.25, 3.5, 7]),
    # δ_0 = 1 + 0 - 8 = -7, and nothing flows back over it.
    "terminated first": ({0: 0.0}, [-7, -2, 0, 7], [-7, -1.5625, 1.75, 7], [-7, -0.25, 3.5, 7]),
    # δ_1 = 2 + 0 - 6 = -4.
    "terminated in the middle": ({1: 0.0}, [-4, -4, 0, 7], [-5, -4, 1.75, 7], [-6, -4, 3.5, 7]),
    # δ_3 = 4 + 0 - 2 = 2.
    "terminated last": ({3: 0.0}, [-4, -2, 0, 2], [-4.46875, -1.875, 0.5, 2], [-4.75, -1.5, 1, 2]),
    # δ_0 = 1 + 20/2 - 8 = 3.
    "truncated first": ({0: FINAL}, [3, -2, 0, 7], [3, -1.5625, 1.75, 7], [3, -0.25, 3.5, 7]),
    # δ_1 = 2 + 10 - 6 = 6.
    "truncated in the middle": ({1: FINAL}, [-4, 6, 0, 7], [-2.5, 6, 1.75, 7], [-1, 6, 3.5, 7]),
    # δ_3 = 4 + 10 - 2 = 12.
    "truncated last": ({3: FINAL}, [-4, -2, 0, 12], [-4.3125, -1.25, 3, 12], [-3.5, 1, 6, 12]),
    "one-step episodes, terminated": (dict.fromkeys(range(4), 0.0), *[[-7, -4, -1, 2]] * 3),
    "one-step episodes, truncated": (dict.fromkeys(range(4), FINAL), *[[3, 6, 9, 12]] * 3),
    "one after the other": ({1: 0.0, 2: FINAL}, [-4, -4, 9, 7], [-5, -4, 9, 7], [-6, -4, 9, 7]),
}


@pytest.mark.parametrize(("row", "gae_lambda"), [(1, 0.0), (2, 0.5), (3, 1.0)])
@pytest.mark.parametrize("name", TABLES)
def test_advantages_are_those_worked_out_by_hand(name, row, gae_lambda):
    ends = TABLES[name][0]
    assert advantages(following(ends), set(ends), gae_lambda) == TABLES[name][row]


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 1.0])
def test_no_other_bootstrap_of_a_truncation_gives_the_same_advantage(step, gae_lambda):
    right = advantages(following({step: FINAL}), {step}, gae_lambda)
    reset_observation = following({})[step]
    for wrong in (VALUES[step], reset_observation, 0.0):
        assert advantages(following({step: wrong}), {step}, gae_lambda)[step] != right[step]


@pytest.mark.parametrize("gae_lambda", [0.5, 1.0])
def test_a_cut_that_is_forgotten_or_one_step_off_gives_other_advantages(gae_lambda):
    right = advantages(following({1: 0.0}), {1}, gae_lambda)
    for cuts in (set(), {0}, {2}):
        assert advantages(following({1: 0.0}), cuts, gae_lambda) != right


def test_credit_that_crosses_an_episode_end_is_that_of_one_long_episode():
    """Credit ends with the trial: an inner end is no cut, and its next value is the next episode's first."""
    assert advantages(following({}), set(), 1.0) == TABLES["no end"][3]
    assert advantages(following({1: 0.0}), {1}, 1.0) != TABLES["no end"][3]


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_with_lambda_one_advantages_are_monte_carlo_returns_minus_values(gamma):
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    cuts = torch.rand(50, 3, generator=generator) < 0.2
    next_values[:-1] = torch.where(cuts[:-1], next_values[:-1], values[1:])
    result = gae(rewards, values, next_values, cuts, gamma=gamma, gae_lambda=1.0)
    returns = torch.zeros_like(rewards)
    for lane in range(3):
        for t in range(50):
            total, discount = 0.0, 1.0
            for k in range(t, 50):
                total += discount * rewards[k, lane]
                discount *= gamma
                if cuts[k, lane] or k == 49:
                    total += discount * next_values[k, lane]
                    break
            returns[t, lane] = total
    torch.testing.assert_close(result, returns - values, rtol=0, atol=1e-12)


def test_with_lambda_zero_an_advantage_is_its_own_error():
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (torch.randn(9, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    result = gae(rewards, values, next_values, torch.zeros(9, 2, dtype=torch.bool), gamma=0.9, gae_lambda=0.0)
    torch.testing.assert_close(result, rewards + 0.9 * next_values - values, rtol=0, atol=0)


def test_envs_are_independent():
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (torch.randn(9, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    cuts = torch.rand(9, 3, generator=generator) < 0.3
    together = gae(rewards, values, next_values, cuts, gamma=0.9, gae_lambda=0.8)
    for lane in range(3):
        alone = gae(*(x[:, lane : lane + 1] for x in (rewards, values, next_values, cuts)), gamma=0.9, gae_lambda=0.8)
        assert torch.equal(together[:, lane : lane + 1], alone)


# Backwards from the end without a cut: 4, 3 + 4/2 = 5, 2 + 5/2 = 4.5, 1 + 4.5/2 = 3.25; after a cut the sum is anew.
TO_GO = {
    "no end": (set(), [3.25, 4.5, 5, 4]),
    "cut after the first": ({0}, [1, 4.5, 5, 4]),
    "cut in the middle": ({1}, [2, 2, 5, 4]),
    "cut after the last": ({3}, [3.25, 4.5, 5, 4]),
    "two cuts": ({0, 2}, [1, 3.5, 3, 4]),
    "one-step episodes": ({0, 1, 2, 3}, [1, 2, 3, 4]),
}


def cut_mask(cuts):
    return torch.tensor([[t in cuts] for t in range(4)])


@pytest.mark.parametrize(("cuts", "expected"), TO_GO.values(), ids=TO_GO)
def test_rewards_to_go_are_those_worked_out_by_hand(cuts, expected):
    result = rewards_to_go(column(REWARDS), cut_mask(cuts), gamma=GAMMA)
    assert result.squeeze(1).tolist() == expected


def test_undiscounted_rewards_to_go_of_an_episode_begin_with_its_return():
    result = rewards_to_go(column(REWARDS), cut_mask({1, 3}), gamma=1.0)
    assert result.squeeze(1).tolist() == [3, 2, 7, 4]
    assert rewards_to_go(column(REWARDS), cut_mask({1, 3}), gamma=0.0).squeeze(1).tolist() == REWARDS


SINCE = {
    "no end": (set(), [0, 1, 2, 3]),
    "cut after the first": ({0}, [0, 0, 1, 2]),
    "cut in the middle": ({1}, [0, 1, 0, 1]),
    "cut after the last": ({3}, [0, 1, 2, 3]),
    "two cuts": ({0, 2}, [0, 0, 1, 0]),
    "one-step episodes": ({0, 1, 2, 3}, [0, 0, 0, 0]),
}


@pytest.mark.parametrize(("cuts", "expected"), SINCE.values(), ids=SINCE)
def test_steps_since_a_cut_are_those_counted_by_hand(cuts, expected):
    assert steps_since_cut(cut_mask(cuts)).squeeze(1).tolist() == expected


def test_steps_are_counted_env_by_env():
    generator = torch.Generator().manual_seed(0)
    cuts = torch.rand(40, 5, generator=generator) < 0.2
    cuts[:, 4] = False
    ages = steps_since_cut(cuts)
    for lane in range(5):
        age = 0
        for t in range(40):
            assert ages[t, lane] == age
            age = 0 if cuts[t, lane] else age + 1
    assert torch.equal(steps_since_cut(cuts[:1]), torch.zeros(1, 5, dtype=torch.int64))


def test_discounted_sums_are_those_worked_out_by_hand():
    cuts = torch.tensor([[False], [True], [False], [False]])
    sums, carried = discounted_sums(column(REWARDS), cuts, torch.tensor([8.0], dtype=torch.float64), GAMMA)
    assert sums.squeeze(1).tolist() == [1 + 4, 2 + 2.5, 3, 4 + 1.5]
    assert carried.tolist() == [5.5]


def test_a_cut_at_the_last_step_is_carried_as_nothing():
    cuts = torch.tensor([[False], [False], [False], [True]])
    sums, carried = discounted_sums(column(REWARDS), cuts, torch.zeros(1, dtype=torch.float64), GAMMA)
    assert sums[-1].item() == 4 + (3 + (2 + 1 / 2) / 2) / 2
    assert carried.tolist() == [0.0]


def test_discounted_sums_of_several_rollouts_are_those_of_one_long_one():
    generator = torch.Generator().manual_seed(0)
    rewards, cuts = torch.randn(12, 3, generator=generator), torch.rand(12, 3, generator=generator) < 0.2
    whole, last = discounted_sums(rewards, cuts, torch.zeros(3), 0.9)
    running, parts = torch.zeros(3), []
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        part, running = discounted_sums(rewards[begin:end], cuts[begin:end], running, 0.9)
        parts.append(part)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(running, last)


def test_explained_variance_is_one_for_perfect_values_and_zero_for_constant_ones():
    returns = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((4,), 7.0), returns) == 0.0
    assert explained_variance(-returns, returns) == pytest.approx(1 - 4)
    assert explained_variance(returns / 2, returns) == pytest.approx(1 - 1 / 4)
    assert explained_variance(returns, torch.ones(4)) == 0.0
