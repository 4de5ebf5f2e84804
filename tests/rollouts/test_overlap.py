"""Overlap: the next rollout is the one that a copy of the weights would have collected before learning began."""

import dataclasses
import threading

import pytest
import torch

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.plain_data import decode, encode
from rlstm.core.trees import tree_leaves
from rlstm.rollouts.collect import collect, refresh_state, start
from rlstm.rollouts.overlap import Overlap
from rlstm.rollouts.rollout import Rollout
from tests import kit

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC")
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True),
    "lifelong": MemoryConfig("lifelong", "episode"),
}
STEPS = 6


class WaitingEnvs:
    """Envs whose steps wait until they may go on."""

    def __init__(self, envs):
        self.envs, self.may_go_on, self.num_steps, self.threads = envs, threading.Event(), 0, set()
        self.num_envs, self.log_info = envs.num_envs, envs.log_info

    def step(self, actions):
        assert self.may_go_on.wait(20)
        self.num_steps += 1
        self.threads.add(threading.current_thread())
        return self.envs.step(actions)


def begin(memory=None, **policy):
    """A policy, its envs, the collector's state, and a first rollout."""
    recurrent = kit.make_policy(memory=memory, **policy)
    envs = kit.scripted(*SCRIPTS, memory=memory)
    carry = start(recurrent, envs, [0] * len(SCRIPTS))
    return recurrent, envs, carry, collect(recurrent, envs, carry, STEPS)


def learn(policy):
    """Move weights and statistics, in place as an update does."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.2).add_(0.05)
    ones = torch.ones(STEPS, len(SCRIPTS), dtype=torch.float64)
    observations = torch.arange(4.0).expand(STEPS, len(SCRIPTS), 4) * torch.linspace(1, 2, STEPS)[:, None, None]
    policy.update_normalisers(observations, ones, ones > 0, torch.linspace(0, 5, STEPS)[:, None] * ones)


def assert_same(left, right):
    for field in dataclasses.fields(Rollout):
        one, other = (tree_leaves(getattr(rollout, field.name)) for rollout in (left, right))
        assert len(one) == len(other), field.name
        assert all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("refreshes", [False, True])
@pytest.mark.parametrize("lifetime", MEMORIES)
def test_it_is_collected_by_the_weights_and_statistics_from_before_learning(lifetime, refreshes):
    settings = {"normalize_observations": True, "scale_rewards": True, "critic_memory": "separate"}
    policy, envs, carry, rollout = begin(MEMORIES[lifetime], **settings)
    expected_policy, expected_envs, expected_carry, _ = begin(MEMORIES[lifetime], **settings)
    overlap = Overlap(policy, STEPS, refreshes=refreshes)
    for one in (policy, expected_policy):  # Changed since the overlap was made: copied when a collection begins.
        learn(one)
    if refreshes:
        refresh_state(expected_policy, rollout, expected_carry)
    expected = collect(expected_policy, expected_envs, expected_carry, STEPS)
    waiting = WaitingEnvs(envs)
    with overlap.collecting(waiting, carry, rollout):
        learn(policy)
        learn(policy)
        waiting.may_go_on.set()
    found = overlap.take()
    assert found.replay_error <= 1e-9
    assert_same(dataclasses.replace(found, replay_error=None), expected)
    assert all(map(torch.equal, tree_leaves(carry.state), tree_leaves(expected_carry.state)))
    assert threading.current_thread() not in waiting.threads
    assert (found.replay(policy).log_probs - found.log_probs).abs().max() > 1e-3  # Learning has moved the weights.


@pytest.mark.parametrize("lifetime", MEMORIES)
def test_a_rollout_and_the_one_ahead_equal_one_of_twice_the_length(lifetime):
    policy, envs, carry, first = begin(MEMORIES[lifetime])
    overlap = Overlap(policy, STEPS, refreshes=False)
    with overlap.collecting(envs, carry, first):
        learn(policy)
    second = dataclasses.replace(overlap.take(), replay_error=None)
    parts = [kit.rollout_leaves(first), kit.rollout_leaves(second)]
    policy = kit.make_policy(memory=MEMORIES[lifetime])
    envs = kit.scripted(*SCRIPTS, memory=MEMORIES[lifetime])
    whole = kit.rollout_leaves(collect(policy, envs, start(policy, envs, [0] * len(SCRIPTS)), 2 * STEPS))
    for name, leaf in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), leaf, rtol=0, atol=1e-12)


def test_a_rollout_is_taken_once():
    policy, envs, carry, rollout = begin()
    overlap = Overlap(policy, STEPS, refreshes=True)
    assert overlap.take() is None
    with overlap.collecting(envs, carry, rollout) as meanwhile:
        assert meanwhile.metrics.keys() <= {"recurrent/state_rms", "recurrent/state_staleness_rms"}
    assert meanwhile.metrics.keys() == {"recurrent/state_rms", "recurrent/state_staleness_rms"}
    assert overlap.take() is not None
    assert overlap.take() is None


def test_gradients_flow_through_what_was_collected_and_not_into_the_copy():
    policy, envs, carry, rollout = begin()
    overlap = Overlap(policy, STEPS, refreshes=True)
    with overlap.collecting(envs, carry, rollout):
        rollout.replay(policy).log_probs.sum().backward()
    overlap.take().replay(policy).log_probs.sum().backward()
    assert all(parameter.grad is None for parameter in overlap._acting.parameters())
    assert not any(leaf.is_inference() for leaf in tree_leaves(carry.state))


class BreakingEnvs(WaitingEnvs):
    def step(self, actions):
        super().step(actions)
        raise EnvironmentFailure("Env 3 has gone.")


def test_what_the_envs_raise_is_raised_where_the_rollout_is_taken_not_while_learning():
    policy, envs, carry, rollout = begin()
    overlap, breaking = Overlap(policy, STEPS, refreshes=True), BreakingEnvs(envs)
    breaking.may_go_on.set()
    with overlap.collecting(breaking, carry, rollout):
        pass
    assert overlap.has_failed
    assert overlap.state_dict() is None
    for _ in range(2):  # It stays broken.
        with pytest.raises(EnvironmentFailure, match=r"Env 3 has gone\."):
            overlap.take()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_if_learning_fails_the_collection_stops_after_the_step_that_is_taken(error):
    policy, envs, carry, rollout = begin()
    overlap, waiting = Overlap(policy, STEPS, refreshes=True), WaitingEnvs(envs)
    threading.Timer(0.2, waiting.may_go_on.set).start()
    with pytest.raises(error), overlap.collecting(waiting, carry, rollout):
        raise error
    assert waiting.num_steps <= 1
    assert not any(thread.name == "rlstm-collector" for thread in threading.enumerate())
    assert overlap.has_failed


def test_learning_does_not_wait_for_the_envs_and_what_is_waited_is_told():
    policy, envs, carry, rollout = begin()
    overlap, waiting = Overlap(policy, STEPS, refreshes=True), WaitingEnvs(envs)
    with overlap.collecting(waiting, carry, rollout) as meanwhile:
        assert waiting.num_steps == 0
        threading.Timer(0.2, waiting.may_go_on.set).start()
    assert waiting.num_steps == STEPS
    assert meanwhile.seconds_waited > 0.1


@pytest.mark.parametrize("lifetime", MEMORIES)
def test_a_rollout_that_was_saved_and_loaded_is_the_same(lifetime):
    policy, envs, carry, rollout = begin(MEMORIES[lifetime], critic_memory="separate")
    overlap = Overlap(policy, STEPS, refreshes=True)
    with overlap.collecting(envs, carry, rollout):
        pass
    values = decode(encode(overlap.state_dict(), "next_rollout"))
    other_policy, _, other_carry, _ = begin(MEMORIES[lifetime], critic_memory="separate")
    other = Overlap(other_policy, STEPS, refreshes=True)
    other.load_state_dict(values, other_carry)
    assert_same(other.take(), overlap.take())
    other.load_state_dict(values, other_carry)
    other.load_state_dict(None, other_carry)
    assert other.take() is None


def test_the_thread_computes_with_as_many_threads_as_the_run():
    policy, envs, carry, rollout = begin()
    overlap, counts, before = Overlap(policy, STEPS, refreshes=True), [], torch.get_num_threads()
    step = envs.step
    envs.step = lambda actions: counts.append(torch.get_num_threads()) or step(actions)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with overlap.collecting(envs, carry, rollout):
                pass
            overlap.take()
    finally:
        torch.set_num_threads(before)
    assert counts == [1] * STEPS + [2] * STEPS
