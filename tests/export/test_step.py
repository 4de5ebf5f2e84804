"""The step of a policy as a function of tensors equals the acting snapshot, for every cell, space and memory."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.core.errors import ExportError
from rlstm.core.trees import tree_map
from rlstm.export.check import check
from rlstm.export.random_inputs import RandomInputs
from rlstm.export.step import ExportedStep
from tests import kit
from tests.export import cases


@pytest.mark.parametrize("case", cases.CASES)
def test_the_step_is_the_acting_snapshot(case):
    policy = cases.make_policy(case)
    step = ExportedStep(policy)
    assert check(step, policy, cases.eager(step), num_steps=15) < 1e-4
    assert [leaf.name for leaf in step.inputs] == list(step.example(1))
    assert [leaf.name for leaf in step.outputs] == list(step(step.example(1)))


def names(case):
    step = ExportedStep(cases.make_policy(case))
    return [leaf.name for leaf in step.inputs], [leaf.name for leaf in step.outputs], step.feedback


def test_inputs_and_outputs_are_named_for_their_places():
    inputs, outputs, feedback = names("dict_and_box")
    observation = ["bits", "camera", "count", "kinds", "pair.0", "pair.1"]  # Gymnasium sorts keys.
    states = [f"{trunk}.{leaf}" for trunk in ("actor", "critic") for leaf in "hc"]
    seen = ["previous_action", "previous_reward", "episode_start", "reset", "noise"]
    wanted = [*(f"observation.{name}" for name in observation), *seen, *(f"state.{name}" for name in states)]
    assert sorted(inputs) == sorted(wanted)
    assert outputs == ["action", "stored_action", "parameters", "value", *(f"next_state.{name}" for name in states)]
    states = {f"state.{name}": f"next_state.{name}" for name in states}
    assert feedback == {**states, "previous_action": "stored_action"}


def test_an_action_that_the_policy_sees_as_it_is_is_fed_back_itself():
    inputs, outputs, feedback = names("flat_choices")
    assert "stored_action" not in outputs
    assert feedback["previous_action"] == "action"
    assert "action_mask" in inputs
    assert "stored_action" not in names("unsigned")[1]
    assert "observation.action_mask" not in names("start")[0]
    assert names("start")[2]["previous_action"] == names("choices")[2]["previous_action"] == "stored_action"


def test_layers_and_blocks_have_their_states_by_number():
    assert [name for name in names("stack")[0] if name.startswith("state")] == [
        f"state.actor.{layer}.{leaf}" for layer in range(3) for leaf in "hc"
    ]
    assert "state.actor.0.cell.m" in names("xlstm")[0]
    assert not [name for name in names("none")[0] if name.startswith("state")]


def test_a_later_change_of_the_policy_does_not_reach_the_step():
    policy = cases.make_policy("gru")
    step = ExportedStep(policy)
    before = step(step.example(2))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    kit.assert_trees_equal(step(step.example(2)), before)
    assert all(parameter.requires_grad for parameter in policy.parameters())


def test_keys_that_would_be_one_name_are_refused():
    vector = spaces.Box(-1, 1, (2,), np.float32)
    space = spaces.Dict({"a.b": vector, "a": spaces.Dict({"b": vector})})
    with pytest.raises(ExportError, match=r"one name: .*observation.a.b.* Name the observation's keys anew"):
        ExportedStep(kit.make_policy(space))


def test_a_random_agent_is_refused():
    policy = kit.make_policy()
    policy.distribution = policy.distribution.at_random()
    with pytest.raises(ExportError, match="acts at random"):
        ExportedStep(policy)


@pytest.mark.parametrize("case", ["dict_and_box", "seconds", "unsigned", "half", "elapsed", "choices"])
def test_random_inputs_are_of_the_space_and_finite(case):
    policy = cases.make_policy(case)
    random = RandomInputs(policy, 0)
    first = random.observations(40)
    for row in range(40):
        observation = tree_map(lambda leaf, row=row: leaf[row], first)
        assert policy.observation_space.contains(observation)
    assert np.isfinite(random.rewards(40)).all()
    masks = random.masks(200)
    if case == "choices":
        assert all(part.any(1).all() for part in np.split(masks, [2, 3, 7], axis=1))
        assert not masks.all()


def test_half_of_the_random_observations_lie_where_the_policy_tells_them_apart():
    observations = RandomInputs(cases.make_policy("seconds"), 0).observations(400)[:, 0]
    near = np.abs(observations - 1.7e9) < 30
    assert 0.3 < near.mean() < 0.7
    assert np.abs(observations[~near]).max() < 30
