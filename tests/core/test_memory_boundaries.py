"""Three boundaries, three choices: which combinations there are."""

import pytest

from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig

BOUNDARIES = ("episode", "trial", "lifelong")
ALLOWED = {
    ("episode", "episode"),
    ("trial", "episode"),
    ("trial", "trial"),
    ("lifelong", "episode"),
    ("lifelong", "trial"),
    ("lifelong", "lifelong"),
}


@pytest.mark.parametrize("lifetime", BOUNDARIES)
@pytest.mark.parametrize("credit", BOUNDARIES)
def test_credit_may_not_outlive_memory(lifetime, credit):
    if (lifetime, credit) in ALLOWED:
        assert MemoryConfig(lifetime, credit, episodes_per_trial=2).credit_boundary == credit
        return
    with pytest.raises(ValueError, match="credit may not outlive memory") as refusal:
        MemoryConfig(lifetime, credit, episodes_per_trial=2)
    message = str(refusal.value)
    assert f"credit is '{credit}'" in message
    assert f"lifetime is '{lifetime}'" in message
    usable = message.rsplit("use ", 1)[1]
    assert {name for name in BOUNDARIES if name in usable} == {c for m, c in ALLOWED if m == lifetime}


@pytest.mark.parametrize("lifetime", BOUNDARIES)
def test_credit_is_cut_where_memory_is_reset_unless_told_otherwise(lifetime):
    assert MemoryConfig(lifetime, episodes_per_trial=2).credit_boundary == lifetime


@pytest.mark.parametrize("options", [{"lifetime": "trial"}, {"lifetime": "lifelong", "credit": "trial"}])
def test_a_trial_needs_its_number_of_episodes(options):
    with pytest.raises(ValueError, match="episodes_per_trial is not set"):
        MemoryConfig(**options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lifetime": "forever"}, "lifetime is 'forever'; it must be one of episode, trial, lifelong"),
        ({"credit": "never"}, "credit is 'never'; it must be one of"),
        ({"bptt_horizon": 0}, "bptt_horizon is 0; it must be at least 1"),
        ({"episodes_per_trial": 0}, "episodes_per_trial is 0; it must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MemoryConfig(**options)


def test_the_past_is_kept_and_not_recomputed_unless_told_otherwise():
    assert MemoryConfig().recompute is False
    assert MemoryConfig("lifelong", recompute=True).recompute is True


@pytest.mark.parametrize("lifetime", BOUNDARIES)
def test_inputs_are_on_by_default_where_memory_outlives_the_episode(lifetime):
    seen = InputsConfig().resolve(lifetime)
    expected = lifetime != "episode"
    assert (seen.previous_action, seen.previous_reward, seen.episode_start) == (expected,) * 3


@pytest.mark.parametrize("lifetime", BOUNDARIES)
@pytest.mark.parametrize("name", ["previous_action", "previous_reward", "episode_start"])
@pytest.mark.parametrize("value", [False, True])
def test_an_explicit_input_wins_over_the_default(lifetime, name, value):
    seen = InputsConfig(**{name: value}).resolve(lifetime)
    others = {"previous_action", "previous_reward", "episode_start"} - {name}
    assert getattr(seen, name) is value
    assert all(getattr(seen, other) is (lifetime != "episode") for other in others)
