"""The two-step task, by hand, against a plain reference, and the analysis for which it was made."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.meta.two_step import TwoStep, mean_certainty

ONE_LANE = np.zeros(1, dtype=np.int64)


def with_rich_side(rich: int, **arguments: Any) -> SingleEnv:
    env = SingleEnv(TwoStep, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "rich_places": np.array([rich])})
    return env


def test_a_hand_computed_episode_without_chance() -> None:
    env = with_rich_side(2, num_trials=4, common_probability=1.0, reward_probability=1.0, swap_probability=1.0)
    table = [
        # Action, stage then seen, reward, end, success. The rich side swaps after each trial: 2, 1, 2, 1.
        (1, 2, 0.0, False, False),
        (0, 0, 1.0, False, True),
        (1, 2, 0.0, False, False),
        (1, 0, 0.0, False, False),
        (0, 1, 0.0, False, False),
        (0, 0, 0.0, False, False),
        (0, 1, 0.0, False, False),
        (1, 0, 1.0, True, True),
    ]
    for action, stage, reward, over, success in table:
        info = {"is_success": success, "is_common": True}
        assert env.step(action) == (stage, reward, over, False, info)


def test_a_plain_reference_plays_the_same() -> None:
    common, pays, swap = 0.7, 0.8, 0.3
    env = SingleEnv(TwoStep, num_trials=3, common_probability=common, reward_probability=pays, swap_probability=swap)
    rng, random = np.random.default_rng(0), LaneRandom(1)
    random.seed([0], [4])
    env.reset(seed=4)
    for _ in range(60):
        rich = 1 + int(random.integers(ONE_LANE, 2)[0])
        for trial in range(1, 4):
            side, other = 1 + int(rng.integers(2)), int(rng.integers(2))
            is_common = bool(random.uniform(ONE_LANE, (2,))[0, 0] < common)
            stage = side if is_common else 3 - side
            info = {"is_success": False, "is_common": is_common}
            assert env.step(side - 1) == (stage, 0.0, False, False, info)
            paid, swaps = random.uniform(ONE_LANE, (2,))[0] < [pays if stage == rich else 1.0 - pays, swap]
            info = {"is_success": side == rich, "is_common": is_common}
            assert env.step(other) == (0, float(paid), trial == 3, False, info)
            rich = 3 - rich if swaps else rich
        env.reset()


@pytest.mark.parametrize("action", [0, 1])
def test_transitions_rewards_and_swaps_are_as_frequent_as_in_the_source(action: int) -> None:
    num_envs = 40_000
    env = BatchedVectorEnv(TwoStep, num_envs)
    env.reset(seed=action)
    before = env.get_state()["rich_places"]
    stages, rewards, *_ = env.step(np.full(num_envs, action))
    assert not rewards.any()
    assert np.array_equal(env.get_state()["rich_places"], before)
    _, rewards, *_ = env.step(np.full(num_envs, action))
    swapped = env.get_state()["rich_places"] != before
    for found, expected in (
        ((before == 1).mean(), 0.5),
        ((stages == 1 + action).mean(), 0.8),
        (rewards[stages == before].mean(), 0.9),
        (rewards[stages != before].mean(), 0.1),
        (swapped.mean(), 0.025),
    ):
        assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / (num_envs / 2))


def test_actions_at_the_second_stage_have_no_effect() -> None:
    env, other = BatchedVectorEnv(TwoStep, 200), BatchedVectorEnv(TwoStep, 200)
    env.reset(seed=0)
    other.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = rng.integers(2, size=200)
        assert np.array_equal(env.step(actions)[0], other.step(actions)[0])
        outcomes = env.step(np.zeros(200, dtype=int)), other.step(np.ones(200, dtype=int))
        assert np.array_equal(outcomes[0][1], outcomes[1][1])
    assert all(np.array_equal(array, other.get_state()[name]) for name, array in env.get_state().items())


def certainty_by_enumeration(belief: float, pays: float, swap: float, trials: int) -> float:
    """The sum over `trials` of E[max(b, 1 - b)], over every sequence of outcomes."""
    if trials == 0:
        return 0.0
    total = max(belief, 1.0 - belief)
    for likelihood in (pays, 1.0 - pays):
        chance = likelihood * belief + (1.0 - likelihood) * (1.0 - belief)
        if chance > 0.0:
            left = likelihood * belief / chance
            left = (1.0 - swap) * left + swap * (1.0 - left)
            total += chance * certainty_by_enumeration(left, pays, swap, trials - 1)
    return total


@pytest.mark.parametrize(
    ("pays", "swap"), [(0.9, 0.025), (0.8, 0.1), (0.6, 0.0), (1.0, 0.3), (0.75, 0.9), (0.5, 0.2), (0.9, 0.5)]
)
def test_the_certainty_on_a_grid_is_that_over_all_sequences(pays: float, swap: float) -> None:
    for trials in (1, 2, 3, 12):
        exact = certainty_by_enumeration(0.5, pays, swap, trials) / trials
        assert mean_certainty(pays, swap, trials) == pytest.approx(exact, abs=2e-5)


@pytest.mark.parametrize(("pays", "swap"), [(0.9, 0.025), (0.55, 0.001)])
def test_the_grid_is_fine_enough(monkeypatch: pytest.MonkeyPatch, pays: float, swap: float) -> None:
    found = mean_certainty(pays, swap, 100)
    monkeypatch.setattr("rlstm.envs.meta.two_step.NUM_BELIEFS", 10_001)
    assert found == pytest.approx(mean_certainty.__wrapped__(pays, swap, 100), abs=2e-5)


@pytest.mark.parametrize("arguments", [{"common_probability": 0.5}, {"reward_probability": 0.5}])
def test_where_nothing_can_be_known_memory_is_worth_nothing(arguments: dict[str, Any]) -> None:
    task = SingleEnv(TwoStep, **arguments).task
    assert task.memory_length == 0
    assert task.optimal_return.value == pytest.approx(task.memoryless_return.value, abs=1e-9)
    assert SingleEnv(TwoStep).task.memory_length is None


def test_the_best_return_lies_between_one_half_and_knowing_the_rich_side() -> None:
    # 74 of 100 trials pay if the rich side is always chosen: .8 x .9 + .2 x .1.
    assert 70.0 < SingleEnv(TwoStep).optimal_return.value < 74.0


def repetitions_after(choose: Any) -> Any:
    """How often the first action is repeated after (unrewarded, rewarded) trials with (rare, common) transitions."""
    num_envs, num_trials = 500, 100
    env = BatchedVectorEnv(TwoStep, num_envs)
    env.reset(seed=0)
    counts, repeated = np.zeros((2, 2)), np.zeros((2, 2))
    last: Any = None
    for _ in range(num_trials - 1):
        actions = choose(last)
        if last is not None:
            np.add.at(counts, last[:2], 1)
            np.add.at(repeated, last[:2], actions == last[2])
        env.step(actions)
        _, rewards, _, _, infos = env.step(actions)
        assert infos["_is_common"].all()
        last = rewards.astype(int), infos["is_common"].astype(int), actions
    return repeated / counts


def test_stay_probabilities_tell_model_free_from_model_based_behaviour() -> None:
    rng = np.random.default_rng(0)

    def win_stay(last: Any) -> Any:
        return rng.integers(2, size=500) if last is None else np.where(last[0] == 1, last[2], 1 - last[2])

    def regard_the_transition(last: Any) -> Any:
        return rng.integers(2, size=500) if last is None else np.where(last[0] == last[1], last[2], 1 - last[2])

    assert repetitions_after(win_stay).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert repetitions_after(regard_the_transition).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_trials": 1}, "num_trials must be an integer >= 2, but got 1"),
        ({"common_probability": 0.4}, r"common_probability must be a number in \[0.5, 1.0\], but got 0.4"),
        ({"reward_probability": 1.1}, r"reward_probability must be a number in \[0.5, 1.0\], but got 1.1"),
        ({"swap_probability": -0.1}, r"swap_probability must be a number in \[0.0, 1.0\], but got -0.1"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(TwoStep, **arguments)


def test_rendering_shows_the_agent_and_the_rich_side() -> None:
    env = with_rich_side(
        2, render_mode="ansi", common_probability=1.0, reward_probability=1.0, swap_probability=0.0, num_trials=2
    )
    frames = [env.render()]
    for action in (0, 0, 1, 0):
        env.step(action)
        frames.append(env.render())
    assert frames == [
        "trial 1 of 2, last: nothing\n. $\n @ ",
        "trial 1 of 2, last: nothing\n@ $\n . ",
        "trial 2 of 2, last: nothing\n. $\n @ ",
        "trial 2 of 2, last: nothing\n. @\n . ",
        "trial 2 of 2, last: paid\n. $\n @ ",
    ]
