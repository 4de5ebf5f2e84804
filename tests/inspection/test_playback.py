"""Claims about `rlstm.inspection.playback`: what is shown is what an evaluation plays, and what the policy held."""

from __future__ import annotations

from contextlib import closing
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm.envs  # noqa: F401 - registers the environments.
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.evaluation.evaluate import evaluate
from rlstm.inspection.playback import Playback, make_env, render_modes
from rlstm.policies.config import PolicyConfig
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec

MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=3),
    "lifelong": MemoryConfig("lifelong", credit="episode"),
}
CONFIG = EnvConfig(env="rlstm/TMaze-v0", env_kwargs={"corridor_length": 3, "noise": True, "max_steps": 9})


def made(lifetime: str = "episode", config: EnvConfig = CONFIG, **inputs: Any) -> tuple[RecurrentPolicy, Any]:
    spec = resolve_spec(config)
    with closing(make(spec, config, MEMORIES[lifetime], num_envs=1)) as envs:
        torch.manual_seed(0)
        network = PolicyConfig(hidden_size=6, encoder_sizes=(5,))
        policy = RecurrentPolicy(
            envs.observation_space, envs.action_space, network, MEMORIES[lifetime], InputsConfig(**inputs)
        )
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return policy, spec


@pytest.mark.parametrize("ablate", [False, True])
@pytest.mark.parametrize("lifetime", MEMORIES)
def test_episodes_are_those_of_an_evaluation(lifetime: str, ablate: bool) -> None:
    policy, spec = made(lifetime)
    with closing(make(spec, CONFIG, MEMORIES[lifetime], num_envs=1)) as envs:
        expected = evaluate(policy, envs, 6, seed=3, deterministic=True, ablate_memory=ablate)
    with closing(make_env(spec, CONFIG, MEMORIES[lifetime])) as env:
        playback = Playback(policy, env, seed=3, deterministic=True, ablate_memory=ablate, stream="evaluation")
        episodes = [list(playback.episode())[-1][1] for _ in range(6)]
    assert [episode.total for episode in episodes] == pytest.approx(expected.returns.tolist())
    assert [len(episode.moments) for episode in episodes] == expected.lengths.tolist()
    assert [episode.success for episode in episodes] == expected.successes.tolist()
    resets = [[moment.is_first for moment in episode.moments] for episode in episodes]
    if ablate:
        assert all(map(all, resets))
    else:
        begins = {"episode": [True] * 6, "trial": [True, False, False] * 2, "lifelong": [True] + [False] * 5}[lifetime]
        assert [one[0] for one in resets] == begins
        assert not any(any(one[1:]) for one in resets)


def test_a_trial_is_played_as_one_with_the_return_of_its_episodes() -> None:
    policy, spec = made("trial")
    with closing(make_env(spec, CONFIG, MEMORIES["trial"])) as env:
        playback = Playback(policy, env, seed=3, deterministic=True)
        apart = [list(playback.episode())[-1][1] for _ in range(6)]
    with closing(make_env(spec, CONFIG, MEMORIES["trial"])) as env:
        playback = Playback(policy, env, seed=3, deterministic=True)
        trials = [playback.play() for _ in range(2)]
    for trial, episodes in zip(trials, (apart[:3], apart[3:]), strict=True):
        assert len(trial.moments) == sum(len(one.moments) for one in episodes)
        assert trial.total == pytest.approx(sum(one.total for one in episodes))
        assert [moment.is_first for moment in trial.moments].count(True) == 1
        assert [moment.episode_start for moment in trial.moments].count(True) == 3


@pytest.mark.parametrize("lifetime", MEMORIES)
def test_what_was_held_and_thought_is_what_the_sequence_path_gives(lifetime: str) -> None:
    policy, spec = made(lifetime)
    with closing(make_env(spec, CONFIG, MEMORIES[lifetime])) as env:
        playback = Playback(policy, env, seed=0, deterministic=False)
        moments = [moment for _ in range(3) for moment in playback.play().moments]
    inputs = type(moments[0].inputs)(*map(stacked, zip(*(moment.inputs for moment in moments), strict=True)))
    actions = torch.stack([moment.stored_action for moment in moments])
    is_first = torch.tensor([[moment.is_first] for moment in moments])
    result = policy.evaluate(inputs, actions, is_first, policy.init_state(1))
    assert [moment.value for moment in moments] == pytest.approx(result.values.flatten().tolist(), abs=1e-5)
    chosen = [float(moment.probabilities[0][int(moment.stored_action)]) for moment in moments]
    assert chosen == pytest.approx(result.log_probs.exp().flatten().tolist(), abs=1e-5)
    np.testing.assert_allclose(moments[-1].memory["h"], result.state[0].h[0].detach(), atol=1e-5)


def stacked(leaves: tuple[Any, ...]) -> Any:
    return None if leaves[0] is None else torch.stack(leaves)


def test_sampled_actions_repeat_under_a_seed_and_differ_under_another() -> None:
    policy, spec = made()

    def actions(seed: int) -> list[int]:
        with closing(make_env(spec, CONFIG, MemoryConfig())) as env:
            playback = Playback(policy, env, seed=seed, deterministic=False)
            return [int(moment.action) for _ in range(4) for moment in playback.play().moments]

    assert actions(1) == actions(1) != actions(2)


def test_frames_begin_before_the_first_action_and_end_after_the_last() -> None:
    policy, spec = made()
    with closing(make_env(spec, CONFIG, MemoryConfig(), render_mode="ansi")) as env:
        episode = Playback(policy, env, seed=0, deterministic=False, max_steps=3).play()
        frames = [moment.frame for moment in episode.moments] + [episode.last_frame]
    assert len(frames) == 4
    assert frames[0].splitlines()[1][0] == "@"  # The agent stands in the first cell.
    assert not episode.terminated


class Telling(gym.Env[Any, Any]):
    """Its info tells a number that is not seen, and masks one action."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array"], "render_fps": 25}
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(3)

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode == "rgb_array":
            raise ValueError("no images here")
        self.render_mode = render_mode

    def _told(self) -> tuple[Any, dict[str, Any]]:
        mask = np.array([True, True, self.steps % 2 == 0])
        return np.zeros(1, dtype=np.float32), {"hidden": 10.0 + self.steps, "action_mask": mask}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return self._told()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.steps % 2 == 0 or action != 2
        self.steps += 1
        observation, info = self._told()
        return observation, 0.5, self.steps == 4, False, info


@pytest.fixture
def telling() -> Any:
    gym.register("inspection/Telling-v0", Telling)
    yield EnvConfig(env="inspection/Telling-v0")
    gym.registry.pop("inspection/Telling-v0")


def test_numbers_of_infos_stand_beside_their_observation_and_masks_are_kept(telling: EnvConfig) -> None:
    policy, spec = made(config=telling)
    with torch.no_grad():
        policy.policy_head[-1].bias[2] = 100.0
    with closing(make_env(spec, telling, MemoryConfig(), probes=["hidden"])) as env:
        episode = Playback(policy, env, seed=0, deterministic=True).play()
    assert [moment.probes.tolist() for moment in episode.moments] == [[10.0], [11.0], [12.0], [13.0]]
    assert [int(moment.action) == 2 for moment in episode.moments] == [True, False, True, False]
    assert [float(moment.probabilities[0][2]) for moment in episode.moments[1::2]] == [0.0, 0.0]
    assert [moment.total for moment in episode.moments] == [0.5, 1.0, 1.5, 2.0]


def test_an_env_that_can_not_draw_so_is_told(telling: EnvConfig) -> None:
    spec = resolve_spec(telling)
    assert render_modes(spec, telling) == ["human", "rgb_array"]
    with pytest.raises(EnvironmentFailure, match="draw it as rgb_array: no images here"):
        make_env(spec, telling, MemoryConfig(), render_mode="rgb_array")
