"""What is not the policy is refused, with the step, the output and the error."""

import numpy as np
import pytest
import torch

from rlstm.core.errors import ExportError
from rlstm.export.check import check
from rlstm.export.step import ExportedStep
from tests.export import cases


def refusal(policy, run, step=None):
    with pytest.raises(ExportError, match="is not the policy, so nothing was written") as caught:
        check(ExportedStep(policy) if step is None else step, policy, run, num_steps=40)
    return str(caught.value)


def changed(policy, change):
    """A run of the policy's step with some of its outputs changed."""
    return cases.eager(ExportedStep(policy), change)


def test_a_normaliser_of_zeros_is_noticed():
    policy = cases.make_policy("lstm")
    step = ExportedStep(policy)
    step.trunks[0].encoder.moments.mean.zero_()
    step.trunks[0].encoder.moments.variance.fill_(1)
    assert "the output 'parameters' has an error of" in refusal(policy, cases.eager(step))


def test_a_normaliser_of_float32_is_noticed():
    policy = cases.make_policy("seconds")
    step = ExportedStep(policy)
    moments = step.trunks[0].encoder.moments
    moments.mean.copy_(moments.mean.float())
    assert "has an error of" in refusal(policy, cases.eager(step))


def test_a_reward_that_is_not_scaled_is_noticed():
    policy = cases.make_policy("lstm")
    step = ExportedStep(policy)
    step.reward_scale.fill_(1)
    assert "has an error of" in refusal(policy, cases.eager(step))


def test_two_state_leaves_that_change_places_are_noticed():
    policy = cases.make_policy("lstm")

    def swap(outputs):
        h, c = outputs["next_state.actor.h"], outputs["next_state.actor.c"]
        outputs |= {"next_state.actor.h": c, "next_state.actor.c": h}

    assert "the output 'next_state.actor.h' has an error of" in refusal(policy, changed(policy, swap))


def test_leaves_of_another_shape_or_type_are_noticed():
    policy = cases.make_policy("lstm")
    wide = changed(policy, lambda outputs: outputs.update(value=outputs["value"].double()))
    assert "'value' has (1,) float64 instead of (1,) float32" in refusal(policy, wide)
    flat = changed(policy, lambda outputs: outputs.update(value=outputs["value"][:, None]))
    assert "'value' has (1, 1) float32 instead of (1,) float32" in refusal(policy, flat)


def test_what_is_not_a_number_is_noticed():
    policy = cases.make_policy("lstm")
    nan = changed(policy, lambda outputs: outputs["value"].fill_(torch.nan))
    assert "'value' has an error of nan" in refusal(policy, nan)


@pytest.mark.parametrize("case", ["lstm", "choices", "bits", "start"])
def test_an_action_of_another_number_is_noticed(case):
    policy = cases.make_policy(case)
    other = changed(policy, lambda outputs: outputs["action"].sub_(1).abs_())
    assert "the output 'action' has" in refusal(policy, other)


def test_an_action_where_all_are_allowed_is_compared_too():
    policy = cases.make_policy("lstm")
    run = cases.eager(ExportedStep(policy))

    def other(inputs):
        found = run(inputs)
        free = inputs["action_mask"].all(1)
        return found | {"action": np.where(free, (found["action"] + 1) % 3, found["action"])}

    assert "the output 'action' has" in refusal(policy, other)


def bits_of(logit):
    """A policy whose logits are all the same, and a run of it whose likeliest bits are 0."""
    policy = cases.make_policy("bits")
    with torch.no_grad():
        policy.policy_head[-1].weight.zero_()
        policy.policy_head[-1].bias.fill_(logit)
    run = cases.eager(ExportedStep(policy))

    def zeros(inputs):
        found, likeliest = run(inputs), (inputs["noise"] == 0).all(1)
        for name in ("action", "stored_action"):
            found[name][likeliest] = 0
        return found

    return policy, zeros


def test_an_action_that_rounding_decides_may_be_another():
    policy, run = bits_of(1e-7)
    check(ExportedStep(policy), policy, run)
    assert "the output 'action' has" in refusal(*bits_of(1e-4))


@pytest.mark.parametrize("case", ["start", "dict_and_box"])
def test_an_action_that_is_fed_back_wrongly_is_noticed(case):
    policy = cases.make_policy(case)
    assert "'stored_action' has" in refusal(policy, changed(policy, lambda found: found["stored_action"].add_(1)))


def test_noise_and_bounds_count():
    policy = cases.make_policy("unit_box")
    assert "'action' has" in refusal(policy, changed(policy, lambda found: found["action"].clamp_(max=0.6)))
    step = ExportedStep(policy)
    run = cases.eager(step)
    assert "action' has" in refusal(policy, lambda inputs: run({**inputs, "noise": np.zeros_like(inputs["noise"])}))


@pytest.mark.parametrize("name", ["reset", "episode_start", "previous_reward", "previous_action", "action_mask"])
def test_an_input_that_is_not_read_is_noticed(name):
    policy = cases.make_policy("lstm")
    run = cases.eager(ExportedStep(policy))
    blank = np.ones_like if name == "action_mask" else np.zeros_like
    refusal(policy, lambda inputs: run({**inputs, name: blank(inputs[name])}))


def test_initial_states_that_are_not_zero_are_compared():
    policy = cases.make_policy("mlstm")
    step = ExportedStep(policy)
    assert step.initial_state(2)["state.actor.m"].max() == -1e30
    run = cases.eager(step)
    fed = {}

    def from_zeros(inputs):
        fed.setdefault("m", inputs["state.actor.m"] * 0)
        first = inputs["state.actor.m"].max() <= -1e29
        return run({**inputs, **({"state.actor.m": np.zeros_like(inputs["state.actor.m"])} if first else {})})

    refusal(policy, from_zeros)
