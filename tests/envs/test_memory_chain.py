"""bsuite's memory chain, by hand and side by side with the rules written out for one agent."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.bsuite.memory_chain import MemoryChain


def make(bits: list[int], query: int, **arguments: Any) -> SingleEnv:
    env = SingleEnv(MemoryChain, num_bits=len(bits), **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "bits": np.array([bits]), "queries": np.array([query])})
    return env


class PlainChain:
    """bsuite's order of events: a step looks at the clock first and lets it go on afterwards."""

    def __init__(self, length: int, bits: list[int], query: int) -> None:
        self.length, self.bits, self.query, self.clock = length, bits, query, 0

    def look(self) -> list[float]:
        time_left = float(np.float32(1 - self.clock / self.length))
        query = self.query if self.clock == self.length - 1 else 0
        return [time_left, query, *((1.0 if bit else -1.0) if self.clock == 0 else 0.0 for bit in self.bits)]

    def step(self, action: int) -> tuple[list[float], float, bool]:
        observation, over = self.look(), self.clock == self.length
        self.clock += 1
        reward = (1.0 if action == self.bits[self.query] else -1.0) if over else 0.0
        return observation, reward, over


@pytest.mark.parametrize(("length", "num_bits"), [(1, 1), (1, 4), (2, 10), (3, 1), (7, 3), (20, 1)])
def test_the_plain_rules_give_the_same_episodes(length: int, num_bits: int) -> None:
    rng = np.random.default_rng(0)
    env = SingleEnv(MemoryChain, memory_length=length, num_bits=num_bits)
    final_rewards = set()
    for episode in range(30):
        first, _ = env.reset(seed=episode)
        state = env.get_state()
        plain = PlainChain(length, state["bits"][0].tolist(), int(state["queries"][0]))
        assert first.tolist() == plain.look()
        over = False
        while not over:
            action = int(rng.integers(2))
            observation, reward, over = plain.step(action)
            found = env.step(action)
            assert found[0].tolist() == observation
            assert found[1:] == (reward, over, False, {"is_success": reward == 1.0})
        final_rewards.add(reward)
    assert final_rewards == {-1.0, 1.0}


def test_a_hand_written_episode_shows_the_bits_twice_and_then_asks() -> None:
    env = make([1, 0, 1], query=1, memory_length=4)
    assert env.task.observe()[0].tolist() == [1, 0, 1, -1, 1]
    table = [
        # action, observation, reward, terminated, success
        (1, [1, 0, 1, -1, 1], 0.0, False, False),
        (1, [0.75, 0, 0, 0, 0], 0.0, False, False),
        (0, [0.5, 0, 0, 0, 0], 0.0, False, False),
        (1, [0.25, 1, 0, 0, 0], 0.0, False, False),
        (0, [0, 0, 0, 0, 0], 1.0, True, True),
    ]
    for action, observation, *outcome in table:
        found = env.step(action)
        assert found[0].tolist() == observation
        assert [found[1], found[2], found[4]["is_success"]] == outcome


@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize("answer", [0, 1])
def test_only_the_last_action_counts(bit: int, answer: int) -> None:
    for before in (0, 1):
        env = make([bit], query=0, memory_length=3)
        assert [env.step(before)[1] for _ in range(3)] == [0.0, 0.0, 0.0]
        assert env.step(answer)[1] == (1.0 if answer == bit else -1.0)


def test_with_length_one_the_bits_are_in_view_when_one_is_asked() -> None:
    env = make([0, 1], query=1, memory_length=1)
    asked = [1, 1, -1, 1]
    assert env.task.observe()[0].tolist() == asked
    assert env.step(0)[0].tolist() == asked
    assert env.step(1)[1:3] == (1.0, True)
    assert env.task.memory_length == 0
    assert env.memoryless_return.value == 1.0


def test_bits_are_fair_and_queries_uniform_and_all_are_independent() -> None:
    num_envs, num_bits = 20_000, 5
    env = BatchedVectorEnv(MemoryChain, num_envs, memory_length=2, num_bits=num_bits)
    env.reset(seed=0)
    state = env.get_state()
    assert np.abs(state["bits"].mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(num_envs)
    chances = np.bincount(state["queries"], minlength=num_bits) / num_envs
    assert np.abs(chances - 0.2).max() < 5 * 0.4 / np.sqrt(num_envs)
    correlations = np.corrcoef(np.vstack([state["bits"].T, state["queries"]]))
    assert np.abs(correlations - np.eye(num_bits + 1)).max() < 5 / np.sqrt(num_envs)


def test_a_kept_task_has_the_same_bits_and_another_query() -> None:
    env = BatchedVectorEnv(MemoryChain, 100, memory_length=2, num_bits=8)
    env.reset(seed=0)
    first = env.get_state()
    env.reset(options={"new_task": False})
    kept = env.get_state()
    env.reset()
    drawn = env.get_state()
    assert np.array_equal(kept["bits"], first["bits"])
    assert 0.7 < (kept["queries"] != first["queries"]).mean() < 1.0
    assert 0.3 < (drawn["bits"] != first["bits"]).mean() < 0.7


def test_the_rows_are_bsuites_two_experiments() -> None:
    length, size = (gym.make(f"rlstm/Memory{name}-v0").unwrapped.task for name in ("Length", "Size"))
    assert (length.chain_length, length.num_bits, length.memory_length) == (20, 1, 19)
    assert (size.chain_length, size.num_bits, size.memory_length) == (2, 10, 1)


def test_the_text_tells_what_is_in_view() -> None:
    env = make([1, 0, 1], query=2, memory_length=2, render_mode="ansi")
    frames = [env.render()]
    for _ in range(3):
        env.step(0)
        frames.append(env.render())
    assert frames == [
        "step 0 of 3: bits +-+, nothing is asked",
        "step 1 of 3: bits +-+, nothing is asked",
        "step 2 of 3: bits (+-+), bit 2 is asked",
        "step 3 of 3: bits (+-+), nothing is asked",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_length": 0}, "memory_length must be an integer >= 1, but got 0"),
        ({"memory_length": "2"}, "memory_length must be an integer >= 1, but got '2'"),
        ({"num_bits": 0}, "num_bits must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(MemoryChain, **arguments)
