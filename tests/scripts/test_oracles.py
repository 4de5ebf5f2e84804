"""Oracles beside which learning to learn is measured: known values, exact optima and published means."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec


def play(scripts, task, name, num_trials=5_000, seed=0):
    return scripts.learning_to_learn.play_oracle(task, task.oracles()[name], num_trials, seed)


# Gittins indices.


def test_discounted_gittins_indices_are_those_of_the_published_table(scripts):
    """Gittins 1989, as quoted by Christian and Griffiths 2016: a discount of .9, by the arm's wins and losses."""
    indices = scripts.oracles_gittins.gittins_indices(200, 0.9)
    published = {(0, 0): 0.7029, (1, 1): 0.6346, (2, 2): 0.6010, (9, 1): 0.8695}
    for (wins, losses), index in published.items():
        assert indices[wins + losses][wins] == pytest.approx(index, abs=1e-4)


def test_a_gittins_index_is_the_best_ratio_of_reward_to_pulls_over_all_ways_to_stop(scripts):
    """With two pulls one stops after a failure or not at all: (1/2 + 1/3) / (1 + 1/2), which is more than 1/2."""
    indices = scripts.oracles_gittins.gittins_indices(2)
    assert indices[0][0] == pytest.approx(5 / 9, abs=1e-12)
    np.testing.assert_allclose(indices[1], [1 / 3, 2 / 3], atol=1e-12)  # With one pull left, the mean.


def test_the_packed_table_holds_the_indices_of_every_count(scripts):
    gittins = scripts.oracles_gittins
    table = gittins.GittinsTable(12)
    for total in (1, 5, 12):
        for pulls, row in enumerate(gittins.gittins_indices(total)):
            found = table.look_up(np.arange(pulls + 1), np.full(pulls + 1, pulls), total - pulls)
            np.testing.assert_allclose(found, row, atol=1e-6)


# Bandits: exact dynamic programming with two arms.


def expected_reward(choose, pulls_left, counts):
    """The reward that is expected of ``choose(counts, pulls_left)``; counts are (wins, losses) of each arm."""
    if not pulls_left:
        return 0.0
    return choose(counts, pulls_left, lambda arm: pulled(choose, pulls_left, counts, arm))


def pulled(choose, pulls_left, counts, arm):
    """The reward that is expected of one pull of ``arm`` and of what follows."""
    wins, losses = counts[arm]
    chance = (wins + 1) / (wins + losses + 2)
    later = []
    for outcome in ((wins + 1, losses), (wins, losses + 1)):
        after = tuple(outcome if other == arm else count for other, count in enumerate(counts))
        later.append(expected_reward(choose, pulls_left - 1, after))
    return chance * (1 + later[0]) + (1 - chance) * later[1]


def optimum(num_pulls):
    return expected_reward(lambda counts, left, value: max(value(0), value(1)), num_pulls, ((0, 0), (0, 0)))


def of_rule(scripts, rule, num_pulls):
    """What a rule without chance earns, exactly."""

    def choose(counts, left, value):
        wins, pulls = np.array([[arm[0] for arm in counts]]), np.array([[sum(arm) for arm in counts]])
        seen = scripts.oracles_bandits.Counts(wins, pulls, num_pulls - left, left)
        return value(int(rule(seen, np.random.default_rng(0)).argmax()))

    return expected_reward(choose, num_pulls, ((0, 0), (0, 0)))


def test_the_optimum_of_two_arms_is_as_by_hand():
    """Two pulls: 1/2, then after a win 2/3 with the same arm, after a loss 1/2 with the other one."""
    assert optimum(1) == pytest.approx(1 / 2)
    assert optimum(2) == pytest.approx(1 / 2 + (2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("num_pulls", [3, 6])
def test_rules_without_chance_come_near_the_exact_optimum_and_none_exceeds_it(scripts, num_pulls):
    bandits, best = scripts.oracles_bandits, optimum(num_pulls)
    for rule in (bandits.greedy, bandits.upper_confidence_bound(0.2), bandits.gittins):
        assert num_pulls / 2 < of_rule(scripts, rule, num_pulls) <= best + 1e-9
    assert of_rule(scripts, bandits.gittins, num_pulls) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("name", ["random", "greedy", "epsilon-greedy", "thompson", "optimistic thompson", "gittins"])
def test_no_oracle_earns_more_in_play_than_the_exact_optimum(scripts, name):
    task = scripts.learning_to_learn_tasks.Task("bandit", 3, 2)
    totals = play(scripts, task, name, 20_000)
    error = totals.std() / np.sqrt(totals.size)
    assert totals.mean() < optimum(3) + 4 * error
    exact = {"random": 1.5, "greedy": of_rule(scripts, scripts.oracles_bandits.greedy, 3)}
    exact["gittins"] = of_rule(scripts, scripts.oracles_bandits.gittins, 3)
    assert abs(totals.mean() - exact.get(name, totals.mean())) < 4 * error


def test_scores_are_as_by_hand(scripts):
    bandits = scripts.oracles_bandits
    counts = bandits.Counts(np.array([[3, 0]]), np.array([[4, 2]]), 6, 4)
    rng = np.random.default_rng(0)
    assert bandits.greedy(counts, rng).tolist() == [[4 / 6, 1 / 4]]
    bounds = [4 / 6 + 0.2 * np.sqrt(2 * np.log(6) / 6), 1 / 4 + 0.2 * np.sqrt(2 * np.log(6) / 4)]
    np.testing.assert_allclose(bandits.upper_confidence_bound(0.2)(counts, rng), [bounds])


def test_thompson_draws_from_the_posterior_optimistically_never_below_the_mean(scripts):
    bandits, size = scripts.oracles_bandits, 40_000
    counts = bandits.Counts(np.full((size, 1), 3), np.full((size, 1), 4), 4, 1)
    rng = np.random.default_rng(0)
    draws = bandits.sample(counts, rng)
    assert draws.mean() == pytest.approx(4 / 6, abs=0.005)  # Beta(4, 2).
    assert draws.var() == pytest.approx(8 / 36 / 7, abs=0.001)
    raised = bandits.sample_optimistically(counts, rng)
    assert raised.min() == 4 / 6
    assert (raised == 4 / 6).mean() == pytest.approx((draws < 4 / 6).mean(), abs=0.01)


def test_epsilon_is_the_share_of_random_pulls(scripts):
    """Of five arms one is clearly the best: it is left in 4 of 5 explorations."""
    wins = np.tile([0, 0, 9, 0, 0], (40_000, 1))
    counts = scripts.oracles_bandits.Counts(wins, np.full_like(wins, 9), 45, 5)
    arms = scripts.oracles_bandits.epsilon_greedy(0.25)(counts, np.random.default_rng(0)).argmax(axis=1)
    assert (arms != 2).mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("name", "published"), [("random", 49.9), ("thompson", 74.7), ("ucb1", 78.0)])
def test_classical_strategies_earn_what_was_published_for_100_pulls_of_5_arms(scripts, name, published):
    task = scripts.learning_to_learn_tasks.Task("bandit", 100, 5)
    assert task.published[name] == published
    totals = play(scripts, task, name)
    # Within the error of a published mean over 1,000 bandits and of ours over 5,000.
    assert abs(totals.mean() - published) < 2 * totals.std() * np.sqrt(1 / 1_000 + 1 / 5_000)


@pytest.mark.slow
@pytest.mark.parametrize(("pulls", "arms"), [(10, 5), (10, 10), (10, 50), (100, 10), (100, 50)])
def test_classical_strategies_earn_what_was_published_for_other_bandits(scripts, pulls, arms):
    task = scripts.learning_to_learn_tasks.Task("bandit", pulls, arms)
    for name in ("random", "thompson", "ucb1"):
        totals = play(scripts, task, name)
        # 0.05 is the rounding of the published mean.
        error = totals.std() * np.sqrt(1 / 1_000 + 1 / 5_000)
        assert abs(totals.mean() - task.published[name]) < 0.05 + 3 * error


def test_a_bandit_oracle_counts_what_it_has_seen_and_how_many_pulls_are_left(scripts):
    oracle = scripts.oracles_bandits.BanditOracle(scripts.oracles_bandits.gittins, 2, 2, 3, np.random.default_rng(0))
    nothing = np.zeros(2, dtype=int)
    for arms, rewards in (([0, 1], [1.0, 0.0]), ([0, 0], [0.0, 1.0])):
        oracle.learn(nothing, np.array(arms), np.array(rewards), nothing)
    assert oracle.counts.pulls.tolist() == [[2, 0], [1, 1]]
    assert oracle.counts.successes.tolist() == [[1, 0], [1, 0]]
    assert (oracle.counts.num_made, oracle.counts.num_left) == (2, 1)


# MDPs.


def test_oracles_are_told_the_last_state_of_an_episode_and_not_the_first_of_the_next(scripts):
    """Episodes of three steps: what follows the third is the state it led to, though the lane is in state 0 again."""
    task = scripts.learning_to_learn_tasks.Task("mdp", 2)
    config = EnvConfig(env=task.env.env, env_kwargs={"horizon": 3})
    envs = make(resolve_spec(config), config, MemoryConfig("trial", episodes_per_trial=2), num_envs=50)
    seen = []

    class Recorder:
        def act(self, states, step):
            return np.full(50, step)

        def learn(self, states, actions, rewards, next_states):
            seen.append((actions[0], states, next_states))

    scripts.oracles.play_trial(Recorder(), envs, list(range(50)), 2)
    assert [step for step, _, _ in seen] == [0, 1, 2] * 2
    for (step, _, after), (_, states, _) in pairwise(seen):
        assert (after == states).all() == (step < 2)
    assert (seen[3][1] == 0).all()
    assert (seen[2][2] > 0).sum() > 25


def test_plans_are_as_good_as_the_best_policy_by_recursion(scripts):
    rng = np.random.default_rng(3)
    transitions, rewards = rng.dirichlet(np.ones(3), (2, 3, 2)), rng.normal(size=(2, 3, 2))
    policies = scripts.oracles_mdps.plan(transitions, rewards, 4)

    @cache
    def best(task, state, left):
        return max((follow(task, state, action, left), -action) for action in (0, 1)) if left else (0.0, 0)

    def follow(task, state, action, left):
        later = [best(task, after, left - 1)[0] for after in range(3)]
        return rewards[task, state, action] + transitions[task, state, action] @ later

    for step in range(4):
        for task in range(2):
            assert policies[step, task].tolist() == [-best(task, state, 4 - step)[1] for state in range(3)]


def test_a_plan_gives_up_reward_now_for_more_later_but_not_at_the_last_step(scripts):
    """Action 1 in state 0 costs 1 and leads to state 1, where every step pays 3."""
    transitions = np.zeros((1, 2, 2, 2))
    transitions[0, 0, 0, 0] = transitions[0, 0, 1, 1] = 1.0
    transitions[0, 1, :, 1] = 1.0
    rewards = np.array([[[0.0, -1.0], [3.0, 3.0]]])
    assert scripts.oracles_mdps.plan(transitions, rewards, 3)[:, 0, 0].tolist() == [1, 1, 0]


def experienced(scripts, transitions, rewards, visits):
    """Beliefs after so many visits of every state and action, as the world's own numbers would have them."""
    beliefs = scripts.oracles_mdps.Beliefs(len(rewards), *rewards.shape[1:])
    beliefs.next_counts[:] = visits * transitions
    beliefs.visits[:] = visits
    beliefs.reward_sums[:] = visits * rewards
    return beliefs


def test_with_much_experience_every_model_plans_the_optimal_policy(scripts):
    mdps, rng = scripts.oracles_mdps, np.random.default_rng(0)
    transitions, rewards = rng.dirichlet(np.ones(4), (3, 4, 3)), rng.normal(1.0, 1.0, (3, 4, 3))
    optimal = mdps.plan(transitions, rewards, 5)
    beliefs = experienced(scripts, transitions, rewards, 1e9)
    for model in (mdps.expect, mdps.expect_with_bonus(1.0), mdps.sample):
        assert (mdps.plan(*model(beliefs, rng), 5) == optimal).all()
        unknowing = mdps.Beliefs(3, 4, 3)
        assert (mdps.plan(*model(unknowing, rng), 5) != optimal).any()


def test_the_posterior_of_a_world_is_as_by_hand(scripts):
    """Of (0, 1) three visits with rewards 4, 5, 6 that led to 1, 1, 0; nothing is known of the rest."""
    beliefs = scripts.oracles_mdps.Beliefs(1, 2, 2)
    for reward, after in ((4.0, 1), (5.0, 1), (6.0, 0)):
        beliefs.learn(np.array([0]), np.array([1]), np.array([reward]), np.array([after]))
    assert beliefs.mean_rewards().tolist() == [[[1.0, 4.0], [1.0, 1.0]]]  # (1 + 15) / (1 + 3)
    assert beliefs.mean_transitions()[0, 0, 1].tolist() == [2 / 5, 3 / 5]
    assert beliefs.mean_transitions()[0, 1, 0].tolist() == [1 / 2, 1 / 2]
    bonus = scripts.oracles_mdps.expect_with_bonus(2.0)(beliefs, np.random.default_rng(0))[1]
    assert bonus.tolist() == [[[3.0, 4.5], [3.0, 3.0]]]


def test_psrl_samples_worlds_from_the_posterior(scripts):
    beliefs = scripts.oracles_mdps.Beliefs(20_000, 2, 2)
    zero, one = np.zeros(20_000, dtype=int), np.ones(20_000, dtype=int)
    for reward, after in ((4.0, one), (5.0, one), (6.0, zero)):
        beliefs.learn(zero, one, np.full(20_000, reward), after)
    transitions, rewards = scripts.oracles_mdps.sample(beliefs, np.random.default_rng(0))
    np.testing.assert_allclose(transitions.sum(axis=-1), 1.0)
    assert transitions[:, 0, 1, 1].mean() == pytest.approx(3 / 5, abs=0.01)  # Beta(3, 2): variance 6 / 25 / 6.
    assert transitions[:, 0, 1, 1].var() == pytest.approx(0.04, abs=0.002)
    assert (rewards[:, 0, 1].mean(), rewards[:, 0, 1].var()) == pytest.approx((4.0, 1 / 4), abs=0.02)
    assert (rewards[:, 1, 0].mean(), rewards[:, 1, 0].var()) == pytest.approx((1.0, 1.0), abs=0.05)


def test_knowing_oracles_earn_more_than_chance_and_less_than_knowing_the_world(scripts):
    task = scripts.learning_to_learn_tasks.Task("mdp", 5)
    means = {name: play(scripts, task, name, 1_000).mean() for name in task.oracles()}
    assert means["random"] == pytest.approx(50.0, abs=1.5)  # 1 a step, 10 steps, 5 episodes.
    for name in ("greedy", "epsilon-greedy", "psrl", "beb"):
        assert means["random"] + 4 < means[name] < 5 * 21.9
