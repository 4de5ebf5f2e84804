"""The time convention: every index rule of ``rlstm.rollouts.collect`` on scripted lanes.

Scripts have a letter a step: '.' goes on, 'E' terminates, 'C' truncates, 'B' does both at once.
"""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlstm.cells import CELLS as ALL_CELLS
from rlstm.core.errors import EnvironmentFailure, NonFiniteError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.policies.inputs import PolicyInputs
from rlstm.rollouts.collect import collect, collect_trajectories, start
from rlstm.rollouts.rollout import Rollout
from rlstm.vector.adapter import VectorEnvs
from tests import kit
from tests.kit import covering

CELLS = [name for name, cell in ALL_CELLS.items() if not cell.reads_maps]  # Those that read vectors.

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC", "...B...C", "........")
CHOICES = [
    ("episode", "episode"),
    ("trial", "episode"),
    ("trial", "trial"),
    ("lifelong", "episode"),
    ("lifelong", "trial"),
    ("lifelong", "lifelong"),
]
EPISODES_PER_TRIAL = 2


def memory_of(lifetime, credit):
    return MemoryConfig(lifetime, credit, episodes_per_trial=EPISODES_PER_TRIAL)


class Story:
    """What a script means, told in plain words for one lane: the oracle of this file."""

    def __init__(self, script, memory, num_steps):
        ends = [kit.outcome(script, t) for t in range(num_steps)]
        self.terminated, self.truncated = [e for e, _ in ends], [c for _, c in ends]
        self.done = [e or c for e, c in ends]
        self.episode_starts = [True, *self.done[:-1]]
        self.episode = [sum(self.done[:t]) for t in range(num_steps + 1)]  # Of the observation at t.
        trial_ends = [done and self.episode[t + 1] % EPISODES_PER_TRIAL == 0 for t, done in enumerate(self.done)]
        after = {"episode": self.done, "trial": trial_ends, "lifelong": [False] * num_steps}
        self.reset_after = after[memory.lifetime]
        self.is_first = [True, *self.reset_after[:-1]]
        self.cut_after = after[memory.credit_boundary]
        # Sums of t + 1 over what memory holds once observation t is seen; see KnownPolicy.
        self.values = []
        for t in range(num_steps + 1):
            is_reset = t == 0 or self.reset_after[t - 1]
            self.values.append((0.0 if is_reset else self.values[-1]) + t + 1)
        self.next_values = []
        for t in range(num_steps):
            if not self.cut_after[t]:
                self.next_values.append(self.values[t + 1])
            elif self.terminated[t]:
                self.next_values.append(0.0)
            else:  # The final observation counts t + 2 and, as a final one, 1000.
                self.next_values.append(self.values[t] + t + 2 + 1000)


def collected(memory, *, scripts=SCRIPTS, num_steps=8, num_rollouts=1, separate=False, **options):
    """Rollouts of the known policy, one after the other, glued together along time."""
    policy = kit.KnownPolicy(memory, separate=separate)
    envs = kit.scripted(*scripts, memory=memory, **options)
    collector_state = start(policy, envs, list(range(len(scripts))))
    rollouts = [collect(policy, envs, collector_state, num_steps) for _ in range(num_rollouts)]
    parts = [kit.rollout_leaves(rollout) for rollout in rollouts]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, policy


def lane_list(leaves, name, lane):
    return leaves[name][:, lane].tolist()


@pytest.mark.parametrize("kind", ["native", "sync"])
@pytest.mark.parametrize(("lifetime", "credit"), CHOICES)
def test_flags_are_those_of_the_script(lifetime, credit, kind):
    memory = memory_of(lifetime, credit)
    leaves, _ = collected(memory, num_steps=5, num_rollouts=3, kind=kind)
    for lane, script in enumerate(SCRIPTS):
        story = Story(script, memory, 15)
        assert lane_list(leaves, "is_first", lane) == story.is_first
        assert lane_list(leaves, "terminated", lane) == story.terminated
        assert lane_list(leaves, "truncated", lane) == story.truncated
        assert lane_list(leaves, "credit_cuts", lane) == story.cut_after
        if lifetime != "episode":
            assert lane_list(leaves, "inputs.3", lane) == story.episode_starts
    assert leaves["valid"].all()


def test_terminated_and_truncated_are_kept_apart():
    leaves, _ = collected(MemoryConfig(), scripts=("E", "C", "B", "."), num_steps=1)
    assert leaves["terminated"].tolist() == [[True, False, True, False]]
    assert leaves["truncated"].tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_every_row_is_one_env_in_the_order_of_time(kind):
    """Each row holds the observation before the step, with lane, time and episode; no row is a final observation."""
    leaves, _ = collected(MemoryConfig(), num_steps=5, num_rollouts=3, kind=kind)
    observations = leaves["inputs.0"]
    for lane, script in enumerate(SCRIPTS):
        story = Story(script, MemoryConfig(), 15)
        assert observations[:, lane, 0].tolist() == [lane] * 15
        assert observations[:, lane, 1].tolist() == list(range(15))
        assert observations[:, lane, 2].tolist() == story.episode[:15]
        assert observations[:, lane, 3].tolist() == [0] * 15
        assert lane_list(leaves, "rewards", lane) == [kit.reward(lane, t) for t in range(15)]


@pytest.mark.parametrize("final_form", ["full", "object"])
@pytest.mark.parametrize("separate", [False, True], ids=["shared critic", "separate critic"])
@pytest.mark.parametrize(("lifetime", "credit"), CHOICES)
def test_values_and_next_values_are_those_added_up_by_hand(lifetime, credit, separate, final_form):
    memory = memory_of(lifetime, credit)
    leaves, _ = collected(memory, num_steps=8, num_rollouts=2, separate=separate, final_form=final_form)
    scale = 10.0 if separate else 1.0
    for lane, script in enumerate(SCRIPTS):
        story = Story(script, memory, 16)
        assert lane_list(leaves, "values", lane) == [scale * value for value in story.values[:16]]
        assert lane_list(leaves, "next_values", lane) == [scale * value for value in story.next_values]


@pytest.mark.parametrize("step", [0, 3, 7], ids=["first", "middle", "last"])
def test_truncation_bootstraps_the_final_observation_with_the_state_before_the_reset(step):
    script = "." * step + "C" + "." * (7 - step)
    leaves, _ = collected(MemoryConfig(), scripts=(script,))
    seen = sum(range(1, step + 2))  # By the state before the reset: observations 0 .. step.
    next_value = leaves["next_values"][step, 0].item()
    assert next_value == seen + (step + 2) + 1000
    wrong = {
        "V(s_t)": leaves["values"][step, 0].item(),
        "nothing": 0.0,
        "the reset observation, reset state": step + 2.0,
        "the reset observation, state before the reset": seen + step + 2.0,
        "the final observation, reset state": step + 2 + 1000.0,
    }
    assert all(value != next_value for value in wrong.values())


def test_a_step_that_terminates_and_truncates_is_worth_nothing_more():
    leaves, _ = collected(MemoryConfig(), scripts=("..B.",), num_steps=4)
    assert leaves["next_values"][2, 0] == 0


@pytest.mark.parametrize("letter", "EC")
def test_with_trial_credit_an_inner_episode_end_cuts_nothing(letter):
    """Two episodes a trial: the first end is inner, the second ends the trial."""
    memory = memory_of("trial", "trial")
    leaves, _ = collected(memory, scripts=(f".{letter}.{letter}....",))
    assert lane_list(leaves, "credit_cuts", 0) == [False, False, False, True] + [False] * 4
    values = [1, 3, 6, 10, 5, 11, 18, 26]  # Reset before observation 4 only.
    assert lane_list(leaves, "values", 0) == values
    trial_end = 0 if letter == "E" else 10 + 5 + 1000
    assert lane_list(leaves, "next_values", 0) == [3, 6, 10, trial_end, 11, 18, 26, 26 + 9]


def test_lifelong_credit_is_never_cut():
    leaves, _ = collected(MemoryConfig("lifelong"), scripts=("ECBE.C.E",))
    assert not leaves["credit_cuts"].any()
    sums = np.cumsum(range(1, 10)).tolist()
    assert lane_list(leaves, "next_values", 0) == sums[1:]


def test_episode_credit_in_a_longer_memory_bootstraps_with_that_memory():
    leaves, _ = collected(MemoryConfig("lifelong", "episode"), scripts=(".C..",), num_steps=4)
    assert lane_list(leaves, "values", 0) == [1, 3, 6, 10]
    assert lane_list(leaves, "next_values", 0) == [3, 3 + 3 + 1000, 10, 15]


def test_one_value_call_covers_all_truncated_rows_of_a_rollout():
    _, policy = collected(MemoryConfig(), scripts=("C", ".C", "E", "..C"), num_steps=6)
    assert policy.value_calls == [4, 6 + 3 + 2]


def test_without_truncation_there_is_one_value_call():
    _, policy = collected(MemoryConfig(), scripts=("E", "..", ".B"), num_steps=6)
    assert policy.value_calls == [3]


# With real policies.


def reference(policy, scripts, rollout, num_steps):
    """Values and next values lane by lane, from the policy's parts, one observation at a time."""
    memory, values, next_values = policy.memory, [], []
    for lane, script in enumerate(scripts):
        story = Story(script, memory, num_steps)
        states = [trunk.cell.init_state(1) for trunk in policy.trunks()]
        lane_values, lane_next = [], []

        def look(t, states, first, last, lane=lane, story=story):
            episode = story.episode[t - 1] if last else story.episode[t]
            told = t == 0 or (story.done[t - 1] and not last)
            nothing = t == 0 or first
            action = torch.zeros(1, dtype=torch.int64) if nothing else rollout.actions[t - 1, lane].reshape(1)
            reward = torch.tensor([0.0 if nothing else kit.reward(lane, t - 1)], dtype=policy.dtype)
            inputs = PolicyInputs(
                torch.tensor([[lane, t, episode, float(last)]], dtype=policy.dtype),
                action if policy.inputs.previous_action else None,
                reward if policy.inputs.previous_reward else None,
                torch.tensor([told]) if policy.inputs.episode_start else None,
            )
            outputs, after = [], []
            for trunk, state in zip(policy.trunks(), states, strict=True):
                encoded = policy.input_features(
                    trunk.encoder, inputs, torch.tensor([nothing]), policy.reward_scale, policy.dtype
                )
                output, state = trunk.cell.step(encoded, trunk.cell.init_state(1) if first else state)
                outputs.append(output)
                after.append(state)
            return policy.value_head(outputs[-1]).item(), after

        for t in range(num_steps + 1):
            first = t == 0 or story.reset_after[t - 1]
            before = states
            value, states = look(t, before, first, False)
            if t > 0:
                if not story.cut_after[t - 1]:
                    lane_next.append(value)
                elif story.terminated[t - 1]:
                    lane_next.append(0.0)
                else:
                    lane_next.append(look(t, before, False, True)[0])
            lane_values.append(value)
        values.append(lane_values[:-1])
        next_values.append(lane_next)
    return torch.tensor(values).T, torch.tensor(next_values).T


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize(("lifetime", "credit"), CHOICES)
def test_a_real_policy_values_every_step_as_one_that_is_walked_through_by_hand(lifetime, credit, critic_memory):
    policy = kit.make_policy(memory=memory_of(lifetime, credit), critic_memory=critic_memory, num_layers=2)
    envs = kit.scripted(*SCRIPTS, memory=policy.memory)
    rollout = collect(policy, envs, start(policy, envs, [0] * len(SCRIPTS)), 12)
    with torch.no_grad():
        values, next_values = reference(policy, SCRIPTS, rollout, 12)
    torch.testing.assert_close(rollout.values.float(), values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rollout.next_values.float(), next_values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "lifetime"), covering(CELLS, ["episode", "trial", "lifelong"]))
def test_evaluating_a_rollout_gives_back_what_was_stored(cell, lifetime):
    """Replay, over the seam of two rollouts, terminated and truncated both present, two layers, a separate critic."""
    policy = kit.make_policy(memory=memory_of(lifetime, None), cell=cell, num_layers=2, critic_memory="separate")
    envs = kit.scripted(*SCRIPTS, memory=policy.memory)
    collector_state = start(policy, envs, [0] * len(SCRIPTS))
    for _ in range(2):
        rollout = collect(policy, envs, collector_state, 9)
        evaluation = rollout.replay(policy)
        torch.testing.assert_close(evaluation.log_probs, rollout.log_probs, rtol=0, atol=1e-12)
        torch.testing.assert_close(evaluation.values, rollout.values, rtol=0, atol=1e-12)
        for replayed, carried in zip(tree_leaves(evaluation.state), tree_leaves(collector_state.state), strict=True):
            torch.testing.assert_close(replayed, carried, rtol=0, atol=1e-12)


def test_a_replay_from_another_state_or_with_shifted_resets_differs():
    """The control of the replay test: zeroed initial state, resets one step late, resets forgotten."""
    policy = kit.make_policy()
    envs = kit.scripted(*SCRIPTS)
    collector_state = start(policy, envs, [0] * len(SCRIPTS))
    collect(policy, envs, collector_state, 9)
    rollout = collect(policy, envs, collector_state, 9)
    zeroed = dataclasses.replace(rollout, initial_state=policy.init_state(rollout.num_envs))
    late = dataclasses.replace(rollout, is_first=rollout.is_first.roll(1, 0))
    never = dataclasses.replace(rollout, is_first=torch.zeros_like(rollout.is_first))
    for wrong in (zeroed, late, never):
        assert (wrong.replay(policy).log_probs - rollout.log_probs).abs().max() > 1e-4


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize(("lifetime", "credit"), CHOICES)
def test_two_rollouts_equal_one_of_twice_the_length(lifetime, credit, critic_memory):
    results = []
    for lengths in ((14,), (7, 7), (1, 5, 8)):
        policy = kit.make_policy(memory=memory_of(lifetime, credit), critic_memory=critic_memory)
        envs = kit.scripted(*SCRIPTS, memory=policy.memory)
        collector_state = start(policy, envs, [0] * len(SCRIPTS))
        parts = [kit.rollout_leaves(collect(policy, envs, collector_state, length)) for length in lengths]
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        results.append((whole, tree_leaves(collector_state.state), collector_state.statistics.state_dict()))
    for other in results[1:]:
        ends = results[0][0]["credit_cuts"] & ~results[0][0]["terminated"]
        for (name, whole), part in zip(results[0][0].items(), other[0].values(), strict=True):
            if name == "next_values":  # Truncated rows go through a product of another size: the same but for rounding.
                torch.testing.assert_close(whole[ends], part[ends], rtol=0, atol=1e-14)
                whole, part = whole[~ends], part[~ends]
            assert torch.equal(whole, part), name
        kit.assert_trees_equal(results[0][1], other[1])
        assert repr(results[0][2]) == repr(other[2])


def test_the_initial_state_is_the_carried_one_before_any_reset():
    policy = kit.make_policy()
    envs = kit.scripted("...E", "....")
    collector_state = start(policy, envs, [0, 0])
    assert all((leaf == 0).all() for leaf in tree_leaves(collector_state.state))
    collect(policy, envs, collector_state, 4)
    carried = tree_map(torch.clone, collector_state.state)
    rollout = collect(policy, envs, collector_state, 4)
    kit.assert_trees_equal(rollout.initial_state, carried)
    assert all((leaf != 0).any(1).all() for leaf in tree_leaves(rollout.initial_state))  # Lane 0 is reset later.
    assert rollout.is_first[0].tolist() == [True, False]


def test_a_lifelong_memory_does_not_notice_episode_ends():
    """Two envs that show and give the same, one in episodes and one without an end."""
    inputs = InputsConfig(previous_action=True, previous_reward=True, episode_start=False)
    results = []
    for script in ("..E.C...B.", ".........."):
        policy = kit.make_policy(memory=MemoryConfig("lifelong"), inputs=inputs)
        envs = kit.scripted(script, script, tell_episodes=False)
        collector_state = start(policy, envs, [0, 0])
        rollout = collect(policy, envs, collector_state, 20)
        results.append((rollout, collector_state.state))
    (in_episodes, state), (endless, endless_state) = results
    assert in_episodes.terminated.any()
    assert not endless.terminated.any()
    for name in ("actions", "log_probs", "values", "rewards", "next_values", "is_first", "credit_cuts"):
        assert torch.equal(getattr(in_episodes, name), getattr(endless, name)), name
    kit.assert_trees_equal(state, endless_state)


@pytest.mark.parametrize("lifetime", ["episode", "trial", "lifelong"])
def test_previous_action_and_reward_are_those_of_the_step_before_in_a_trajectory(lifetime):
    policy = kit.make_policy(memory=memory_of(lifetime, None), inputs=InputsConfig(True, True, True))
    envs = kit.scripted(*SCRIPTS, memory=policy.memory)
    collector_state = start(policy, envs, [0] * len(SCRIPTS))
    first, second = (collect(policy, envs, collector_state, 8) for _ in range(2))
    actions = torch.cat([first.actions, second.actions])
    encoded = torch.cat(
        [
            policy.input_features(_PassThrough(), rollout.inputs, rollout.is_first, policy.reward_scale, policy.dtype)
            for rollout in (first, second)
        ]
    )
    one_hot = torch.nn.functional.one_hot(actions, 3).double()
    inner_starts = 0
    for lane, script in enumerate(SCRIPTS):
        story = Story(script, policy.memory, 16)
        for t in range(16):
            action, reward, begins = encoded[t, lane, :3], encoded[t, lane, 3].item(), encoded[t, lane, 4].item()
            assert begins == story.episode_starts[t]
            if story.is_first[t]:
                assert (action.tolist(), reward) == ([0, 0, 0], 0)
                continue
            assert torch.equal(action, one_hot[t - 1, lane])
            assert reward == kit.reward(lane, t - 1)
            inner_starts += story.episode_starts[t]
    assert (inner_starts > 0) is (lifetime != "episode")


class _PassThrough:
    """An encoder that shows the extras it is given."""

    def __call__(self, observations, extras, dtype):
        return torch.cat([extra.to(dtype) for extra in extras], -1)


def test_the_env_gets_the_actions_that_are_stored():
    policy = kit.make_policy()
    envs = kit.scripted(*SCRIPTS)
    rollout = collect(policy, envs, start(policy, envs, [0] * len(SCRIPTS)), 9)
    assert np.array_equal(np.stack(envs.envs.actions), rollout.actions.numpy())
    assert len(set(rollout.actions.flatten().tolist())) == 3


def test_a_squashed_action_is_stored_before_the_squash_and_played_after_it():
    space = gym.spaces.Box(np.float32([-1, 10]), np.float32([1, 30]))
    policy = kit.make_policy(action_space=space, squash_actions=True)
    envs = kit.scripted(*SCRIPTS, action_space=space)
    rollout = collect(policy, envs, start(policy, envs, [0] * len(SCRIPTS)), 9)
    played = torch.from_numpy(np.stack(envs.envs.actions)).double()
    middle, half = torch.tensor([0.0, 20.0]), torch.tensor([1.0, 10.0])
    torch.testing.assert_close(played, middle + half * rollout.actions.tanh(), rtol=0, atol=1e-5)
    assert (rollout.actions.abs() > 1).any()


# Statistics of episodes.


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_finished_episodes_are_as_many_as_ends_and_their_returns_the_sums_of_rewards(kind):
    memory = memory_of("trial", None)
    policy = kit.KnownPolicy(memory)
    envs = kit.scripted(*SCRIPTS, memory=memory, kind=kind)
    collector_state = start(policy, envs, [0] * len(SCRIPTS))
    for _ in range(3):
        collect(policy, envs, collector_state, 7)
    returns, lengths, successes, trials = [], [], [], []
    running, trial = np.zeros(len(SCRIPTS)), np.zeros(len(SCRIPTS))
    begun, count = [0] * len(SCRIPTS), [0] * len(SCRIPTS)
    for t in range(21):
        for lane, script in enumerate(SCRIPTS):
            running[lane] += kit.reward(lane, t)
            trial[lane] += kit.reward(lane, t)
            ended, cut_off = kit.outcome(script, t)
            if ended or cut_off:
                returns.append(running[lane])
                lengths.append(t + 1 - begun[lane])
                successes.append(float(ended))
                running[lane], begun[lane] = 0.0, t + 1
                count[lane] += 1
                if count[lane] % EPISODES_PER_TRIAL == 0:
                    trials.append(trial[lane])
                    trial[lane] = 0.0
    finished = {name: list(values) for name, values in collector_state.statistics.finished.items()}
    assert finished == {"returns": returns, "lengths": lengths, "successes": successes, "trial_returns": trials}
    assert collector_state.statistics.num_episodes == sum(count) == len(returns)


# Action masks.


class MaskedEnv(gym.Env):
    """Allows one action at a time: the number of steps modulo 3. Refuses any other."""

    action_space = gym.spaces.Discrete(3)

    def __init__(self, place, start=0):
        self.place, self.t, self.start = place, start, start
        box = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = (
            gym.spaces.Dict({"action_mask": gym.spaces.MultiBinary(3), "vector": box}) if place == "dict" else box
        )

    def _observe(self):
        mask = np.arange(3) == self.t % 3
        vector = np.zeros(2, dtype=np.float32)
        if self.place == "dict":
            return {"action_mask": mask.astype(np.int8), "vector": vector}, {}
        left_out = {"none": True, "late": self.t == self.start, "sometimes": self.t % 4 == 3}.get(self.place, False)
        return vector, {} if left_out else {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        return self._observe()

    def step(self, action):
        if self.place in ("info", "dict") and action != self.t % 3:
            raise ValueError(f"forbidden action {action}")
        self.t += 1
        observation, info = self._observe()
        return observation, 0.0, self.t % 5 == 0, self.t % 7 == 0, info


def masked_lanes(place):
    from rlstm.vector.adapter import VectorEnvs
    from rlstm.vector.sub_env import SubEnv

    functions = [lambda lane=lane: SubEnv(MaskedEnv(place, lane), lane) for lane in range(3)]
    mode = gym.vector.AutoresetMode.SAME_STEP
    return VectorEnvs(gym.vector.SyncVectorEnv(functions, autoreset_mode=mode), "sync", "")


@pytest.mark.parametrize("place", ["info", "dict"])
def test_masked_actions_are_never_taken_and_the_mask_is_stored_with_its_observation(place):
    envs = masked_lanes(place)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    rollout = collect(policy, envs, start(policy, envs, [0, 1, 2]), 12)
    allowed = (torch.arange(12).unsqueeze(1) + torch.arange(3)) % 3
    assert torch.equal(rollout.actions, allowed)
    assert torch.equal(rollout.inputs.action_masks, torch.nn.functional.one_hot(allowed, 3).bool())
    assert (rollout.log_probs == 0).all()  # The only allowed action is certain.
    torch.testing.assert_close(rollout.replay(policy).log_probs, rollout.log_probs, rtol=0, atol=1e-12)


def test_without_masks_the_same_env_sees_other_actions():
    envs = masked_lanes("none")
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    rollout = collect(policy, envs, start(policy, envs, [0, 1, 2]), 12)
    assert rollout.inputs.action_masks is None
    assert not torch.equal(rollout.actions, (torch.arange(12).unsqueeze(1) + torch.arange(3)) % 3)


def test_a_mask_that_comes_after_the_reset_only_is_refused():
    """A rollout either has masks or has none: one that was used to act but not stored would break the replay."""
    envs = masked_lanes("late")
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    collector_state = start(policy, envs, [0, 1, 2])
    with pytest.raises(EnvironmentFailure, match=r"action_mask at step 1.*none was in the info of reset"):
        collect(policy, envs, collector_state, 2)


def test_an_env_that_gives_no_mask_at_a_step_may_do_anything():
    envs = masked_lanes("sometimes")
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    rollout = collect(policy, envs, start(policy, envs, [0, 1, 2]), 12)
    times = torch.arange(12).unsqueeze(1) + torch.arange(3)
    masks = torch.nn.functional.one_hot(times % 3, 3).bool() | (times % 4 == 3).unsqueeze(-1)
    assert torch.equal(rollout.inputs.action_masks, masks)


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [
        (np.ones(4, dtype=bool), r"info\['action_mask'\] must be an array of 3 booleans, .* it has shape \(4,\)"),
        ([[True], [False, True]], r"info\['action_mask'\] must be an array of 3 booleans"),
        (np.zeros(3, dtype=bool), "The action mask of env 0 at its step 0 allows no action"),
    ],
)
def test_an_impossible_mask_is_refused(mask, complaint):
    envs = masked_lanes("info")
    for env in envs.envs.envs:
        env.unwrapped._observe = lambda: (np.zeros(2, dtype=np.float32), {"action_mask": mask})
    with pytest.raises(EnvironmentFailure, match=complaint):
        envs.reset([0, 1, 2])


# Batches of complete trajectories.

TRAJECTORIES = ("..E.", "C...", "...E..E.", "EC", "...B..C.....")
BATCH_MEMORIES = {
    "episode": MemoryConfig(),
    "trial": memory_of("trial", "trial"),
    "trial, credit episode": memory_of("trial", "episode"),
}


def schedule(scripts, memory, num_trajectories):
    """A row a step of which envs play, and every trajectory as (env, first step, last step)."""
    stories = [Story(script, memory, 300) for script in scripts]
    playing = [lane < num_trajectories for lane in range(len(scripts))]
    num_begun = sum(playing)
    begun, rows, trajectories = [0] * len(scripts), [], []
    while any(playing):
        rows.append(list(playing))
        for lane, story in enumerate(stories):
            if not (playing[lane] and story.reset_after[len(rows) - 1]):
                continue
            trajectories.append((lane, begun[lane], len(rows) - 1))
            if num_begun < num_trajectories:
                num_begun, begun[lane] = num_begun + 1, len(rows)
            else:
                playing[lane] = False
    return rows, trajectories


def batch_of(memory, num_trajectories, *, scripts=TRAJECTORIES, kind="native", policy=None):
    """A batch of complete trajectories, the collector state and the lanes after it."""
    policy = policy or kit.KnownPolicy(memory)
    envs = kit.scripted(*scripts, memory=memory, kind=kind)
    collector_state = start(policy, envs, [0] * len(scripts))
    return (
        collect_trajectories(policy, envs, collector_state, num_trajectories, [0] * len(scripts)),
        collector_state,
        envs,
    )


@pytest.mark.parametrize(
    ("num_trajectories", "name", "kind"), covering([1, 3, 5, 6, 7, 12, 23], BATCH_MEMORIES, ["native", "sync"])
)
def test_a_batch_is_so_many_complete_trajectories_as_their_scripts_say(name, num_trajectories, kind):
    memory = BATCH_MEMORIES[name]
    rows, trajectories = schedule(TRAJECTORIES, memory, num_trajectories)
    assert len(trajectories) == num_trajectories
    rollout, *_ = batch_of(memory, num_trajectories, kind=kind)
    assert rollout.valid.tolist() == rows  # As long as the last trajectory, and no longer.
    times = range(len(rows))
    for lane, script in enumerate(TRAJECTORIES):
        story = Story(script, memory, len(rows))
        plays = [row[lane] for row in rows]
        assert rollout.is_first[:, lane].tolist() == story.is_first  # Also where a tail begins.
        for name, told in (
            ("terminated", story.terminated),
            ("truncated", story.truncated),
            ("credit_cuts", story.cut_after),
        ):
            assert getattr(rollout, name)[:, lane].tolist() == [plays[t] and told[t] for t in times], name
        assert rollout.rewards[:, lane].tolist() == [plays[t] * kit.reward(lane, t) for t in times]
        assert rollout.inputs.observations[:, lane, 1].tolist() == list(times)
        for t in times:
            if plays[t]:
                assert rollout.values[t, lane] == story.values[t]
                assert rollout.next_values[t, lane] == story.next_values[t]
    for lane, first, last in trajectories:
        assert rollout.is_first[first, lane]
        assert not rollout.is_first[first + 1 : last + 1, lane].any()
        assert rollout.terminated[last, lane] | rollout.truncated[last, lane]
        assert rollout.credit_cuts[last, lane]
    assert int(rollout.valid.sum()) == sum(last - first + 1 for _, first, last in trajectories)


def test_a_trajectory_is_in_the_batch_because_it_began_in_time_however_long_it_is():
    """Four trajectories: the long one was the second to begin, so it counts, and no fifth short one takes its place."""
    rollout, *_ = batch_of(MemoryConfig(), 4, scripts=("E", ".........E"))
    assert rollout.valid[:, 0].tolist() == [True] * 3 + [False] * 7
    assert rollout.valid[:, 1].tolist() == [True] * 10


def test_of_trajectories_that_end_at_once_the_next_begin_in_the_order_of_envs():
    rollout, *_ = batch_of(MemoryConfig(), 5, scripts=(".E", ".E", ".E"))
    assert rollout.valid.tolist() == [[True] * 3] * 2 + [[True, True, False]] * 2


def test_envs_that_are_not_needed_idle_from_the_first_step():
    """One that would never end and one that would break the sums are left alone."""
    rollout, collector_state, _ = batch_of(MemoryConfig(), 1, scripts=("..E", "........", "E"))
    assert rollout.valid.tolist() == [[True, False, False]] * 3
    assert rollout.num_envs == 3
    assert list(collector_state.statistics.finished["lengths"]) == [3]


@pytest.mark.parametrize(("name", "num_trajectories", "kind"), covering(BATCH_MEMORIES, [2, 5, 9], ["native", "sync"]))
def test_statistics_know_the_episodes_of_the_batch_and_no_others(name, num_trajectories, kind):
    memory = BATCH_MEMORIES[name]
    _, trajectories = schedule(TRAJECTORIES, memory, num_trajectories)
    _, collector_state, _ = batch_of(memory, num_trajectories, kind=kind)
    episodes = []
    for lane, first, last in trajectories:
        begun = first
        for t in range(first, last + 1):
            terminated, truncated = kit.outcome(TRAJECTORIES[lane], t)
            if terminated or truncated:
                rewards = sum(kit.reward(lane, k) for k in range(begun, t + 1))
                episodes.append((t, lane, rewards, t + 1 - begun, float(terminated)))
                begun = t + 1
    episodes.sort()
    finished = {name: list(values) for name, values in collector_state.statistics.finished.items()}
    assert finished["returns"] == [row[2] for row in episodes]
    assert finished["lengths"] == [row[3] for row in episodes]
    assert finished["successes"] == [row[4] for row in episodes]
    if memory.lifetime == "trial":
        in_order = sorted(trajectories, key=lambda trajectory: (trajectory[2], trajectory[0]))
        assert finished["trial_returns"] == [
            sum(kit.reward(lane, t) for t in range(first, last + 1)) for lane, first, last in in_order
        ]
    assert collector_state.statistics.num_episodes == len(episodes)


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize("memory", BATCH_MEMORIES.values(), ids=BATCH_MEMORIES)
def test_what_is_played_is_what_a_rollout_of_that_length_plays(memory, critic_memory):
    """Trajectories of up to 200 steps: buffers grow twice, and every row is kept bit for bit, in ordinary tensors."""
    scripts = ("." * 149 + "E", "." * 9 + "C", "." * 70 + "E" + "." * 28 + "C")
    results = []
    for trajectories in (True, False):
        policy = kit.make_policy(memory=memory, inputs=InputsConfig(True, True, True), critic_memory=critic_memory)
        if trajectories:
            rollout, collector_state, _ = batch_of(memory, 4, scripts=scripts, policy=policy)
        else:
            envs = kit.scripted(*scripts, memory=memory)
            collector_state = start(policy, envs, [0] * 3)
            rollout = collect(policy, envs, collector_state, results[0][0].num_steps)
        results.append((rollout, collector_state))
    (trajectories, collector_state), (plain, plain_state) = results
    assert trajectories.num_steps >= 150
    assert not trajectories.all_valid
    kit.assert_trees_equal(collector_state.state, plain_state.state)
    expected, valid = kit.rollout_leaves(plain), trajectories.valid
    for name, leaf in kit.rollout_leaves(trajectories).items():
        if name == "next_values":  # Truncated rows go through a product of another size.
            torch.testing.assert_close(leaf[valid], expected[name][valid], rtol=0, atol=1e-12)
        elif name != "valid":
            assert torch.equal(leaf[valid], expected[name][valid]), name
    tensors = [
        *kit.rollout_leaves(trajectories).values(),
        *tree_leaves(trajectories.initial_state),
        *tree_leaves(collector_state.state),
    ]
    assert not any(tensor.is_inference() for tensor in tensors)
    evaluation = trajectories.replay(policy)
    torch.testing.assert_close(evaluation.log_probs, trajectories.log_probs, rtol=0, atol=1e-12)
    (evaluation.log_probs.sum() + evaluation.values.sum()).backward()


def test_buffers_that_have_grown_and_are_just_full_hold_ordinary_tensors():
    """128 steps: room is made once, within inference mode, and nothing is cut off afterwards."""
    policy = kit.make_policy(inputs=InputsConfig(True, True, True))
    rollout, *_ = batch_of(policy.memory, 1, scripts=("." * 127 + "E",), policy=policy)
    assert rollout.num_steps == 128
    assert not any(leaf.is_inference() for leaf in kit.rollout_leaves(rollout).values())
    rollout.replay(policy).log_probs.sum().backward()


@pytest.mark.parametrize("place", ["info", "dict"])
def test_masks_and_observations_of_many_parts_are_kept_when_buffers_grow(place):
    envs = masked_lanes(place)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    rollout = collect_trajectories(policy, envs, start(policy, envs, [0, 1, 2]), 125, [0, 1, 2])
    assert rollout.num_steps > 128
    allowed = (torch.arange(rollout.num_steps).unsqueeze(1) + torch.arange(3)) % 3
    assert torch.equal(rollout.actions, allowed)
    assert torch.equal(rollout.inputs.action_masks, torch.nn.functional.one_hot(allowed, 3).bool())
    torch.testing.assert_close(rollout.replay(policy).log_probs, rollout.log_probs, rtol=0, atol=1e-12)


def test_every_batch_begins_anew():
    """The second batch has empty memories and no half-finished episode, though lanes idled in the middle of one."""
    policy = kit.make_policy(inputs=InputsConfig(True, True, True))
    envs = kit.scripted("..E", ".......E")
    collector_state = start(policy, envs, [0, 0])
    first = collect_trajectories(policy, envs, collector_state, 2, [1, 2])
    assert not first.valid[-1].all()
    assert any((leaf != 0).any() for leaf in tree_leaves(collector_state.state))
    second = collect_trajectories(policy, envs, collector_state, 2, [3, 4])
    assert all((leaf == 0).all() for leaf in tree_leaves(second.initial_state))
    assert second.is_first[0].all()
    assert second.inputs.episode_starts[0].all()
    assert (second.inputs.previous_rewards[0] == 0).all()
    assert torch.equal(first.rewards, second.rewards)
    for name in ("returns", "lengths"):
        numbers = list(collector_state.statistics.finished[name])
        assert numbers[:2] == numbers[2:]  # The window is over both.
    assert collector_state.statistics.num_episodes == 4


def test_every_batch_resets_each_env_with_its_seed(monkeypatch):
    envs = kit.scripted("..E", ".E")
    policy = kit.KnownPolicy(MemoryConfig())
    collector_state = start(policy, envs, [0, 0])
    asked, reset = [], envs.envs.reset
    monkeypatch.setattr(envs.envs, "reset", lambda **options: asked.append(options["seed"]) or reset(**options))
    collect_trajectories(policy, envs, collector_state, 3, [7, 8])
    collect_trajectories(policy, envs, collector_state, 3, [9, 10])
    assert asked == [[7, 8], [9, 10]]


def test_every_batch_begins_new_trials_in_single_envs_too():
    """The short lane idles in the middle of a trial when the batch ends."""
    memory = memory_of("trial", "trial")
    envs = kit.scripted("E....E....", "...E...E", kind="sync", memory=memory)
    policy = kit.KnownPolicy(memory)
    collector_state = start(policy, envs, [0, 0])
    tasks = [lane.unwrapped.new_tasks for lane in envs.envs.envs]
    collect_trajectories(policy, envs, collector_state, 2, [1, 2])
    assert tasks[0] == [True, True, False, True]  # Two resets of all lanes, the second episode, the trial of the tail.
    rollout = collect_trajectories(policy, envs, collector_state, 2, [3, 4])
    assert tasks[0][4] is True
    assert tasks[1][3:5] == [True, True]  # Begun by the end of the trial before; then by the batch.
    assert rollout.is_first[0].all()


@pytest.mark.parametrize("memory", BATCH_MEMORIES.values(), ids=BATCH_MEMORIES)
def test_a_trajectory_without_an_end_is_refused_once_it_is_too_long(memory, monkeypatch):
    monkeypatch.setattr("rlstm.rollouts.collect._LONGEST_TRAJECTORY", 20)
    with pytest.raises(EnvironmentFailure, match=r"not ended after 20 steps.*max_episode_steps.*use ppo"):
        batch_of(memory, 3, scripts=("..E", "." * 100))
    longest = "." * (9 if memory.lifetime == "trial" else 19) + "E"
    rollout, *_ = batch_of(memory, 5, scripts=("." * 9 + "E", longest))
    assert rollout.num_steps >= 20  # Exactly that length is not too long, and neither are several in a row.
    rollout, *_ = batch_of(memory, 1, scripts=(longest, "." * 100))
    assert rollout.num_steps == 20  # An idle lane may go on for ever.


# What a rollout refuses.


@pytest.fixture
def rollout():
    policy = kit.make_policy(inputs=InputsConfig(True, True, True))
    envs = kit.scripted(*SCRIPTS)
    return collect(policy, envs, start(policy, envs, [0] * len(SCRIPTS)), 4)


@pytest.mark.parametrize("name", ["is_first", "terminated", "truncated", "credit_cuts", "valid"])
def test_a_mask_of_wrong_shape_or_type_is_refused_by_name(rollout, name):
    mask = getattr(rollout, name)
    for wrong in (mask.float(), mask[:-1], mask.unsqueeze(-1), mask.T):
        with pytest.raises(ValueError, match=f"{name} is"):
            dataclasses.replace(rollout, **{name: wrong})


@pytest.mark.parametrize("name", ["log_probs", "values", "next_values"])
def test_numbers_of_wrong_shape_or_type_are_refused_by_name(rollout, name):
    numbers = getattr(rollout, name)
    for wrong in (numbers.long(), numbers[:-1], numbers.unsqueeze(-1), numbers.T):
        with pytest.raises(ValueError, match=f"{name} is"):
            dataclasses.replace(rollout, **{name: wrong})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["rewards", "log_probs", "values", "next_values"])
def test_numbers_that_are_not_finite_are_refused_by_name(rollout, name, bad):
    numbers = getattr(rollout, name).clone()
    numbers[2, 1] = bad
    with pytest.raises(NonFiniteError, match=name):
        dataclasses.replace(rollout, **{name: numbers}).check_finite()


def test_rewards_need_two_axes(rollout):
    with pytest.raises(ValueError, match=r"rewards.*\(T, B\)"):
        dataclasses.replace(rollout, rewards=rollout.rewards.flatten())


def test_inputs_actions_and_states_of_other_lengths_are_refused(rollout):
    with pytest.raises(ValueError, match="input or action"):
        dataclasses.replace(rollout, actions=rollout.actions[:-1])
    with pytest.raises(ValueError, match="input or action"):
        dataclasses.replace(rollout, inputs=rollout.inputs._replace(previous_rewards=rollout.rewards.T))
    with pytest.raises(ValueError, match="state leaf"):
        dataclasses.replace(rollout, initial_state=tree_map(lambda leaf: leaf[:-1], rollout.initial_state))


def test_selected_envs_are_whole_sequences_with_their_states_in_the_order_asked_for(rollout):
    lanes = torch.tensor([4, 0, 3])
    part = rollout.select(lanes)
    assert part.inputs.observations[:, :, 0].tolist() == [[4, 0, 3]] * 4
    assert part.inputs.observations[:, 0, 1].tolist() == [0, 1, 2, 3]
    for name, leaf in kit.rollout_leaves(part).items():
        assert torch.equal(leaf, kit.rollout_leaves(rollout)[name][:, lanes]), name
    for selected, whole in zip(tree_leaves(part.initial_state), tree_leaves(rollout.initial_state), strict=True):
        assert torch.equal(selected, whole[lanes])
    assert (part.num_steps, part.num_envs) == (4, 3)
    assert isinstance(part, Rollout)


def test_a_collected_rollout_can_carry_gradients():
    """Collecting runs in inference mode; what it leaves behind must enter a backward pass."""
    policy = kit.make_policy(memory=MemoryConfig("lifelong"))
    envs = kit.scripted(*SCRIPTS)
    collector_state = start(policy, envs, [0] * len(SCRIPTS))
    for _ in range(2):
        rollout = collect(policy, envs, collector_state, 5)
        tensors = [*kit.rollout_leaves(rollout).values(), *tree_leaves(rollout.initial_state)]
        assert not any(tensor.is_inference() for tensor in [*tensors, *tree_leaves(collector_state.state)])
        rollout.replay(policy).log_probs.sum().backward()


# Envs that break.


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_a_reward_that_is_not_a_number_stops_with_env_and_step(kind):
    scripts = ("....", "....", "....")
    envs = kit.scripted(*scripts, kind=kind)
    policy = kit.make_policy()
    collector_state = start(policy, envs, [0, 1, 2])
    if kind == "native":
        envs.envs.step = _broken_step(envs.envs, rewards_at=(2, 1))
    else:
        envs.envs.envs[1].unwrapped.broken = {2: {"reward": float("nan")}}
    with pytest.raises(EnvironmentFailure, match=r"Env 1 returned a reward that is not finite at its step 3: nan"):
        collect(policy, envs, collector_state, 8)


@pytest.mark.parametrize("script", ["......", "..C..."], ids=["inner", "final"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_observation_that_is_not_a_number_stops_with_env_and_step(bad, script):
    envs = kit.scripted(script, script, kind="sync")
    policy = kit.make_policy()
    collector_state = start(policy, envs, [0, 1])
    envs.envs.envs[1].unwrapped.broken = {2: {"observation": np.array([1, bad, 0, 0], dtype=np.float32)}}
    with pytest.raises(EnvironmentFailure, match="Env 1 returned an observation that is not finite at its step 3"):
        collect(policy, envs, collector_state, 8)


def _broken_step(envs, rewards_at):
    step, (bad_t, bad_lane) = envs.step, rewards_at

    def broken(actions):
        t = envs.t
        observations, rewards, *rest = step(actions)
        if t == bad_t:
            rewards[bad_lane] = np.nan
        return observations, rewards, *rest

    return broken


@pytest.mark.parametrize(
    ("observation", "complaint"),
    [
        (np.zeros(5, dtype=np.float32), r"has shape \(5,\), its space \(4,\)"),
        (np.zeros((1, 4), dtype=np.float32), r"has shape \(1, 4\), its space \(4,\)"),
        (np.zeros(4, dtype=np.complex64), "has dtype complex64, its space float32"),
        (np.array(["a", "b", "c", "d"]), "has dtype <U1, its space float32"),
        (None, r"has shape \(\)"),
    ],
)
def test_an_observation_outside_its_space_stops_with_env_and_step(observation, complaint):
    envs = kit.scripted("....", "....", kind="sync")
    policy = kit.make_policy()
    collector_state = start(policy, envs, [0, 1])
    envs.envs.envs[1].unwrapped.broken = {2: {"observation": observation}}
    with pytest.raises(EnvironmentFailure, match=f"Env 1, its step 3: wrong observation: observation {complaint}"):
        collect(policy, envs, collector_state, 8)


def test_an_env_that_raises_stops_with_env_and_step_and_its_own_words():
    envs = kit.scripted("....", "....", kind="sync")
    policy = kit.make_policy()
    collector_state = start(policy, envs, [0, 1])
    envs.envs.envs[1].unwrapped.broken = {2: KeyError("the arm fell off")}
    with pytest.raises(EnvironmentFailure, match="Env 1, its step 3: step raised: KeyError: 'the arm fell off'"):
        collect(policy, envs, collector_state, 8)


class OneArray(kit.ScriptedVectorEnv):
    """Writes everything that it returns into the same arrays, and afterwards over them."""

    def _own(self, name, value):
        if not hasattr(self, name):
            setattr(self, name, np.array(value))
        array = getattr(self, name)
        array[...] = value
        return array

    def reset(self, **options):
        observations, infos = super().reset(**options)
        return self._own("observations", observations), infos

    def step(self, actions):
        observations, rewards, terminated, truncated, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = self._own("final", infos["final_obs"])
        names = ("observations", "rewards", "terminated", "truncated")
        values = (observations, rewards, terminated, truncated)
        return *map(self._own, names, values), infos


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_an_env_writes_into_its_arrays_after_a_step_changes_no_rollout(dtype):
    memory = MemoryConfig("lifelong", "episode")  # Previous rewards and episode starts are seen.
    rollouts = []
    for make_env in (kit.ScriptedVectorEnv, OneArray):
        policy = kit.make_policy(memory=memory, dtype=dtype)
        envs = VectorEnvs(make_env(SCRIPTS), "native", "")
        collector_state = start(policy, envs, [0] * len(SCRIPTS))
        collect(policy, envs, collector_state, 3)
        rollout = collect(policy, envs, collector_state, 8)
        if make_env is OneArray:
            for name in ("observations", "rewards", "terminated", "truncated", "final"):
                getattr(envs.envs, name)[...] = 1
        rollouts.append(kit.rollout_leaves(rollout))
    kit.assert_trees_equal(*rollouts)
