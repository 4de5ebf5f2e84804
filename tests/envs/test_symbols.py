"""What the tasks over symbols share: pictures, and whole sequences for trainers that need no stepping."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import SingleEnv
from rlstm.envs.sequences.counting_languages import CountingLanguage
from rlstm.envs.sequences.long_lag import LongLag
from rlstm.envs.sequences.reber import EmbeddedReber

CASES = [
    (CountingLanguage, {"num_letters": 3, "max_n": 5}),
    (EmbeddedReber, {}),
    (EmbeddedReber, {"num_strings": 2}),
    (LongLag, {"p": 6}),
    (LongLag, {"p": 6, "form": "random"}),
    (LongLag, {"p": 3, "form": "variable", "stop_probability": 0.3}),
]


@pytest.mark.parametrize(("task", "arguments"), CASES)
def test_sampled_sequences_are_those_that_stepping_gives(task: Any, arguments: dict[str, Any]) -> None:
    num = 12
    found = task.sample_sequences(num, np.random.default_rng(3), **arguments)
    again = task.sample_sequences(num, np.random.default_rng(3), **arguments)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    longest = 0
    for lane, seed in enumerate(np.random.default_rng(3).integers(2**63, size=num)):
        env = SingleEnv(task, **arguments)
        observation, _ = env.reset(seed=int(seed))
        time, terminated = 0, False
        while not terminated:
            following, _, terminated, _, info = env.step(env.action_space.sample())
            assert found.inputs[time, lane] == observation
            assert np.array_equal(found.targets[time, lane], info["target"])
            assert found.valid[time, lane]
            observation, time = following, time + 1
        assert not found.valid[time:, lane].any()
        assert not found.inputs[time:, lane].any()
        assert not found.targets[time:, lane].any()
        longest = max(longest, time)
    assert found.valid.shape == (longest, num)


@pytest.mark.parametrize("wrong_at", [None, 2, 5])
@pytest.mark.parametrize("task", [CountingLanguage, EmbeddedReber])
def test_a_restored_string_remembers_whether_it_was_right_so_far(task: Any, wrong_at: int | None) -> None:
    arguments = {"min_n": 5} if task is CountingLanguage else {}
    env, restored = SingleEnv(task, **arguments), SingleEnv(task, **arguments)
    env.reset(seed=1)
    time, terminated = 0, False
    while not terminated:
        # The instance that goes on is always a restored one; it first tells, on trial, what the right answer is.
        restored.set_state(env.get_state())
        answer = restored.step(np.zeros(env.action_space.shape, dtype=int))[4]["target"]
        restored.set_state(env.get_state())
        answer[0] ^= time == wrong_at
        env, restored = restored, env
        _, _, terminated, _, info = env.step(answer)
        time += 1
    assert info["is_success"] is (wrong_at is None)
