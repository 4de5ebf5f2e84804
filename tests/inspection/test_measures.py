"""Claims about what is measured of a memory, on a policy whose memory is known exactly.

The env shows a sign, then nothing for a while, and asks for the sign at the end. The policy is an LSTM of one unit with
open input and output gates and a forget gate that keeps everything: c = tanh(x_0) from the first step on.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from contextlib import closing
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluation_envs
from rlstm.inspection.dependence import by_lag, gradients, influence, reset_effects
from rlstm.inspection.memory_length import WindowReturn, _WindowActor, memory_length
from rlstm.inspection.page import describe_episode, encode_frames, flat_observation, heat_maps, write_page
from rlstm.inspection.playback import Playback, make_env
from rlstm.inspection.probe import probe
from rlstm.inspection.trace import Trace, time_scales, trace
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import resolve_spec

DELAY, GAIN = 5, 4.0  # Steps from the sign to the question; logits are ±GAIN h.
C = math.tanh(1.0)
H = math.tanh(C)
RIGHT = 1 / (1 + math.exp(-2 * GAIN * H))  # Probability of the right answer.


class Sign(gym.Env[Any, Any]):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def _told(self) -> tuple[Any, dict[str, Any]]:
        shown = self.sign if self.steps == 0 else 0
        return np.array([shown, self.steps == DELAY], dtype=np.float32), {"sign": self.sign}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign, self.steps = int(self.np_random.choice([-1, 1])), 0
        return self._told()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        over = self.steps == DELAY
        reward = float(over and (action == 0) == (self.sign == 1))
        self.steps += 1
        return *self._told()[:1], reward, over, False, self._told()[1]

    def render(self) -> Any:
        return f"sign {self.sign} <step {self.steps}>"


@pytest.fixture(autouse=True)
def registered() -> Any:
    gym.register("inspection/Sign-v0", Sign)
    yield
    gym.registry.pop("inspection/Sign-v0")


CONFIG = EnvConfig(env="inspection/Sign-v0")


def known_policy() -> RecurrentPolicy:
    """c = tanh(x_0), h = tanh(c), logits ±GAIN h."""
    config = PolicyConfig(hidden_size=1, encoder_sizes=(), normalize_observations=False, scale_rewards=False)
    policy = RecurrentPolicy(Sign.observation_space, Sign.action_space, config, MemoryConfig(), InputsConfig()).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        cell: Any = policy.actor.cell
        cell.bias_ih.copy_(torch.tensor([40.0, 40.0, 0.0, 40.0]))  # i, f, g, o
        cell.weight_ih[2, 0] = 1.0
        head: Any = policy.policy_head[-1]
        head.weight.copy_(torch.tensor([[GAIN], [-GAIN]]))
    return policy


def played(count: int, probes: tuple[str, ...] = ("sign",), render_mode: str | None = None) -> list[Any]:
    spec = resolve_spec(CONFIG)
    with closing(make_env(spec, CONFIG, MemoryConfig(), probes=probes, render_mode=render_mode)) as env:
        playback = Playback(known_policy(), env, seed=0, deterministic=True)
        return [playback.play() for _ in range(count)]


def sign_of(episode: Any) -> int:
    return int(episode.moments[0].observation[0])


def test_a_trace_has_what_the_memory_held_and_how_far_its_gates_opened() -> None:
    for episode in played(4):
        traced = trace(known_policy(), episode.moments)
        np.testing.assert_allclose(traced.memory["c"], sign_of(episode) * C * np.ones((DELAY + 1, 1)), atol=1e-9)
        np.testing.assert_allclose(traced.memory["h"], sign_of(episode) * H * np.ones((DELAY + 1, 1)), atol=1e-9)
        assert set(traced.gates) == {"input", "forget", "output"}
        assert min(gate.min() for gate in traced.gates.values()) > 0.999999
        assert time_scales(traced.gates)["forget"][0] > 1e6
        for step, moment in enumerate(episode.moments):
            np.testing.assert_allclose(moment.memory["c"], traced.memory["c"][step], atol=1e-9)


def test_a_trace_over_two_episodes_begins_anew_with_the_second() -> None:
    episodes = played(8)
    pairs = itertools.pairwise(episodes)
    first, second = next((one, other) for one, other in pairs if sign_of(one) != sign_of(other))
    traced = trace(known_policy(), [*first.moments, *second.moments])
    held = traced.memory["c"][:, 0]
    np.testing.assert_allclose(held[: DELAY + 1], sign_of(first) * C, atol=1e-9)
    np.testing.assert_allclose(held[DELAY + 1 :], sign_of(second) * C, atol=1e-9)


def test_the_gradient_is_the_chain_rules() -> None:
    """∂ log π / ∂ x_0 = 2 GAIN (1 - p) (1 - h²) (1 - g²), at every later step alike, and x_s adds to c as x_0 does."""
    (episode, *_) = played(1)
    found = gradients(known_policy(), trace(known_policy(), episode.moments))
    chain = 2 * GAIN * (1 - RIGHT) * (1 - H**2)
    for t in range(DELAY + 1):
        assert found[t, 0] == pytest.approx(chain * (1 - C**2))
        for s in range(1, t + 1):
            assert found[t, s] == pytest.approx(chain)  # There x is 0, so tanh has slope 1.
        assert not found[t, t + 1 :].any()


def test_the_gradient_of_numbers_is_that_of_their_means_in_deviations() -> None:
    """At its mean a normal density is flat, whatever the mean depends on."""
    config = PolicyConfig(hidden_size=3, encoder_sizes=(), normalize_observations=False, initial_log_std=-1.0)
    torch.manual_seed(0)
    space = gym.spaces.Box(-1, 1, (2,))
    policy = RecurrentPolicy(space, gym.spaces.Box(-1, 1, (2,)), config, MemoryConfig(), InputsConfig()).double()
    seen = torch.randn(4, 1, 2).double().requires_grad_()
    is_first = torch.tensor([[True], [False], [False], [False]])
    features, _ = policy.actor.cell.reference_sequence(seen, policy.actor.cell.init_state(1), is_first)
    means = policy.policy_head(features) / math.exp(-1.0)
    traced = Trace(PolicyInputs(seen.detach()), means.detach(), is_first, seen.detach(), policy.init_state(1), {}, {})
    found = gradients(policy, traced)
    for t in range(4):
        parts = [torch.autograd.grad(means[t, 0, i], seen, retain_graph=True)[0] for i in range(2)]
        expected = torch.stack(parts).square().sum((0, 2, 3)).sqrt()
        np.testing.assert_allclose(found[t], expected, atol=1e-9)
    assert found[3, 0] > 1e-4


def test_a_memory_that_does_harm_does_not_last() -> None:
    better = WindowReturn(window=5, mean=3.0, error=0.1, difference=-1.0)
    assert not better.is_lost
    assert WindowReturn(window=5, mean=3.0, error=0.1, difference=1.0).is_lost


def test_a_reset_takes_the_sign_away_and_nothing_else_matters() -> None:
    for episode in played(3):
        effects = reset_effects(known_policy(), trace(known_policy(), episode.moments))
        expected = np.triu(np.full((DELAY + 1, DELAY + 1), RIGHT - 0.5))
        expected[0] = 0.0  # A reset before the sign is seen.
        np.testing.assert_allclose(effects, expected, atol=1e-9)
        own = influence(effects)
        assert own[DELAY].argmax() == 0
        np.testing.assert_allclose(own[1:, 0], RIGHT - 0.5, atol=1e-9)
        np.testing.assert_allclose(own[:, 1:], 0.0, atol=1e-9)
        np.testing.assert_allclose(by_lag(own)[DELAY], RIGHT - 0.5, atol=1e-9)


def test_a_probe_finds_the_sign_in_the_memory_and_not_in_what_is_seen() -> None:
    episodes = played(60)
    traces = [trace(known_policy(), episode.moments) for episode in episodes]
    memories = [np.concatenate([*one.memory.values()], 1) for one in traces]
    seen = [
        np.stack([flat_observation(moment.observation, Sign.observation_space) for moment in one.moments])
        for one in episodes
    ]
    signs = [np.array([moment.probes[0] for moment in one.moments]) for one in episodes]
    found = probe("sign", memories, seen, signs)
    assert found is not None
    assert found.measure == "accuracy"
    assert found.steps.tolist() == list(range(DELAY + 1))
    assert found.from_memory.tolist() == [1.0] * (DELAY + 1)
    assert found.from_observation[0] == 1.0
    assert found.from_observation[1:].max() < 0.7
    assert found.chance.max() < 0.7
    assert probe("constant", memories, seen, [np.zeros(DELAY + 1)] * 60) is None
    assert probe("few", memories[:9], seen[:9], signs[:9]) is None


def test_a_probe_of_a_number_is_judged_by_r_squared_and_faint_traces_are_not_read() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=200)
    others = rng.normal(size=(200, 1, 1))
    told = probe("x", [np.array([[3 * one]]) for one in numbers], list(others), [np.array([one]) for one in numbers])
    assert told is not None
    assert told.measure == "R²"
    assert told.from_memory[0] == pytest.approx(1 / (1 + 0.05**2), abs=0.01)
    assert told.from_observation[0] < 0.05
    # At step 1 only 1/1000 of what was held at step 0 is left.
    faint = [np.array([[one], [one / 1000]]) for one in numbers]
    lost = probe("x", faint, faint, [np.array([one, one]) for one in numbers])
    assert lost is not None
    assert lost.from_memory[0] > 0.9
    assert lost.from_memory[1] < 0.1


def test_a_probe_is_judged_by_episodes_it_was_not_fitted_to() -> None:
    rng = np.random.default_rng(2)
    noise = list(rng.normal(size=(60, 1, 100)))
    signs = [np.array([one]) for one in rng.choice([-1.0, 1.0], 60)]
    found = probe("sign", noise, noise, signs)
    assert found is not None
    assert found.from_memory[0] < 0.75


def test_a_faint_trace_tells_nothing_of_a_sign_either() -> None:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], 200)
    held = [np.array([[one], [one / 1000]]) for one in signs]
    found = probe("sign", held, held, [np.array([one, one]) for one in signs])
    assert found is not None
    assert found.from_memory[0] == 1.0
    assert found.from_memory[1] < 0.65


def test_a_window_begins_as_a_memory_that_has_seen_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, seen = known_policy(), []
    replay = policy.replay_state

    def told(inputs: Any, is_first: torch.Tensor, state: Any) -> Any:
        seen.append(is_first.clone())
        return replay(inputs, is_first, state)

    monkeypatch.setattr(policy, "replay_state", told)
    actor = _WindowActor(policy, 3, None)
    for step in range(5):
        actor(PolicyInputs(torch.zeros(2, 2).double()), torch.full((2,), step == 0))
    assert [len(one) for one in seen] == [1, 2, 2, 2]
    assert all(one[0].all() and not one[1:].any() for one in seen)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_memory_lasts_as_long_as_the_sign_must_be_kept(deterministic: bool) -> None:
    spec = resolve_spec(CONFIG)
    made = lambda: closing(evaluation_envs(spec, EnvConfig(env=CONFIG.env, num_envs=64), MemoryConfig(), 64))  # noqa: E731
    seeds = integer_seeds(0, "playback", 64)
    found = memory_length(known_policy(), made, seeds, deterministic=deterministic, max_steps=50)
    assert found.steps == DELAY
    assert found.whole == pytest.approx(1.0 if deterministic else RIGHT, abs=0.06)
    by_window = {one.window: one for one in found.windows}
    assert by_window[DELAY].is_lost
    assert DELAY + 1 not in by_window or not by_window[DELAY + 1].is_lost
    assert by_window[1].mean == pytest.approx(0.5, abs=0.15)


def test_a_memory_that_is_not_needed_lasts_0_steps() -> None:
    policy, spec = known_policy(), resolve_spec(CONFIG)
    with torch.no_grad():
        policy.policy_head[-1].weight.zero_()  # Always the first action.
        policy.policy_head[-1].bias[0] = 1.0
    made = lambda: closing(evaluation_envs(spec, CONFIG, MemoryConfig(), 8))  # noqa: E731
    found = memory_length(policy, made, integer_seeds(0, "playback", 8), deterministic=True, max_steps=50)
    assert found.steps == 0


def test_the_page_holds_all_facts_and_closes_no_script_early() -> None:
    episodes = played(2, render_mode="ansi")
    policy, described = known_policy(), []
    for episode, frames in zip(episodes, encode_frames(episodes), strict=True):
        traced = trace(policy, episode.moments)
        effects = influence(reset_effects(policy, traced))
        described.append(describe_episode(episode, traced, gradients(policy, traced), effects, frames))
    page = write_page({"title": "</script><b>", "summary": []}, described).decode()
    (block,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    data = json.loads(block)
    assert data["title"] == "</script><b>"
    assert "__DATA__" not in page
    assert not re.search(r"(src|href)=\"https?:", page)
    one = data["episodes"][0]
    assert one["text"] is True
    assert one["frames"][1] == f"sign {sign_of(episodes[0])} <step 1>"
    assert one["resets"] == [True] + [False] * DELAY
    assert one["rewards"][-1] == one["returns"][-1] == 1.0
    right = 0 if sign_of(episodes[0]) == 1 else 1
    assert one["probabilities"][0][-1][right] == pytest.approx(RIGHT, abs=1e-4)
    assert [block["title"] for block in one["blocks"]] == ["h", "c", "input gate", "forget gate", "output gate"]


def test_heat_maps_keep_their_values_and_sort_units_by_time_scale() -> None:
    import base64

    (episode,) = played(1)
    traced = trace(known_policy(), episode.moments)
    steps = np.linspace(0, 1, DELAY + 1)[:, None]
    traced.memory = {"h": np.concatenate([2.0 * steps, -steps, 0.5 - steps], 1)}
    traced.gates = {"forget": np.tile([0.9, 0.1, 0.5], (DELAY + 1, 1))}
    held, opened = heat_maps(traced)
    assert (held["names"], held["signed"], held["scale"]) == (["1", "2", "0"], True, 2.0)
    assert opened["names"] == ["1", "2", "0"]
    values = np.frombuffer(base64.b64decode(held["values"]), np.int8).reshape(3, DELAY + 1) / 127 * 2.0
    np.testing.assert_allclose(values, traced.memory["h"].T[[1, 2, 0]], atol=0.01)
    traced.memory, traced.gates = {"c": np.ones((DELAY + 1, 400))}, {}
    (wide,) = heat_maps(traced)
    assert wide["units"] == 64
    assert "mean size in 64 groups" in wide["title"]
