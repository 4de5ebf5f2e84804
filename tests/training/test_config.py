"""Claims about `rlstm.training.config`: settings become one experiment."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from rlstm.agents.configs.evolino import EvolinoConfig
from rlstm.agents.configs.ppo import PPOConfig
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.policies.config import PolicyConfig
from rlstm.training.config import ConfigError, ExperimentConfig, RunConfig, build_config
from rlstm.training.config_layers import layer, read_config_file
from rlstm.vector.config import EnvConfig


@dataclass(frozen=True)
class Algorithm:
    """Constants of an algorithm, one of every kind of field."""

    num_steps: int = 128
    learning_rate: float = 1e-3
    target_kl: float | None = None
    norm_adv: bool = True
    schedule: Literal["constant", "linear"] = "constant"
    betas: tuple[float, ...] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; it must be at least 1.")


PARTS: dict[str, type[Any]] = {
    "run": RunConfig,
    "env": EnvConfig,
    "policy": PolicyConfig,
    "algorithm": Algorithm,
    "memory": MemoryConfig,
    "inputs": InputsConfig,
}
FIELDS = [
    (f"{part}.{field.name}" if part in ("memory", "inputs") else field.name, typing.get_type_hints(kind)[field.name])
    for part, kind in PARTS.items()
    for field in dataclasses.fields(kind)
]
OTHERS: dict[str, Any] = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 7, "nested": {"a": [1, 2]}},
    "env_import": ("one", "two"),
    "num_envs": 3,
    "vectorization": "sync",
    "total_steps": 5,
    "seed": 2**60,
    "run_dir": "somewhere",
    "eval_every": 0,
    "dtype": "float64",
    "cell": "gru",
    "encoder_sizes": (),
    "head_sizes": (3, 4),
    "critic_memory": "separate",
    "memory_length": 40,
    "initial_log_std": -1.5,
    "num_steps": 9,
    "learning_rate": 0.25,
    "target_kl": 0.02,
    "norm_adv": False,
    "schedule": "linear",
    "betas": (0.5,),
    "memory.lifetime": "trial",
    "memory.credit": "episode",
    "memory.bptt_horizon": 8,
    "memory.episodes_per_trial": 2,
    "inputs.previous_reward": False,
}


def build(settings: dict[str, Any], **options: Any) -> ExperimentConfig[Algorithm]:
    return build_config("test", Algorithm, settings, **options)


# Building


def test_nothing_set_gives_every_default() -> None:
    expected = ExperimentConfig(
        "test", Algorithm(), RunConfig(), EnvConfig(), PolicyConfig(), MemoryConfig(), InputsConfig()
    )
    assert build({}) == expected


def test_every_setting_reaches_its_field_and_no_other() -> None:
    config = build(OTHERS)
    flat, defaults = config.settings(), build({}).settings()
    assert set(flat) == {name for name, _ in FIELDS}
    for name, value in flat.items():
        assert value == (OTHERS[name] if name in OTHERS else defaults[name]), name
    assert (config.algorithm.betas, config.memory.bptt_horizon, config.env.num_envs) == ((0.5,), 8, 3)


@pytest.mark.parametrize("settings", [{}, OTHERS], ids=["defaults", "others"])
def test_a_config_survives_its_flat_form_and_json(settings: dict[str, Any]) -> None:
    config = build(settings)
    assert build(config.settings()) == config
    assert build(json.loads(json.dumps(config.settings()))) == config


def test_memory_and_inputs_may_be_nested_and_names_may_have_dashes(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """
        env = "rlstm/TMaze-v0"
        num-envs = 4
        learning-rate = 1
        encoder-sizes = [8, 4]
        [env-kwargs]
        corridor-length = 5
        [memory]
        lifetime = "trial"
        episodes-per-trial = 3
        bptt_horizon = 16
        [inputs]
        previous-action = false
        """
    )
    config = build(read_config_file(path))
    assert config.memory == MemoryConfig("trial", bptt_horizon=16, episodes_per_trial=3)
    assert config.inputs == InputsConfig(previous_action=False)
    assert config.policy.encoder_sizes == (8, 4)
    assert config.env.num_envs == 4
    assert config.env.env_kwargs == {"corridor-length": 5}  # The env's own names are left as they are.
    assert config.algorithm.learning_rate == 1.0
    assert isinstance(config.algorithm.learning_rate, float)


def test_dotted_names_in_a_file_are_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('memory.lifetime = "lifelong"\nmemory.bptt-horizon = 4\ninputs.episode_start = true\n')
    config = build(read_config_file(path))
    assert config.memory == MemoryConfig("lifelong", bptt_horizon=4)
    assert config.inputs == InputsConfig(episode_start=True)
    assert build({"memory.bptt-horizon": 4, "memory-length": 9}).policy.memory_length == 9


# What is refused


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("num_env", "num_envs"),
        ("hiden_size", "hidden_size"),
        ("learning-rat", "learning_rate"),
        ("memory.lifetim", "memory.lifetime"),
        ("memory.bptt", "memory.bptt_horizon"),
        ("lifetime", "memory.lifetime"),
        ("inputs.previous_rewards", "inputs.previous_reward"),
        ("totalsteps", "total_steps"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"^Unknown setting '.*'\. Did you mean '{re.escape(nearest)}'\?"):
        build({name: 1})


def test_an_unknown_name_inside_a_table_is_refused_with_its_full_name() -> None:
    with pytest.raises(ConfigError, match=r"Unknown setting 'memory\.horizon'\. Did you mean 'memory\.bptt_horizon'"):
        build({"memory": {"horizon": 3}})
    with pytest.raises(ConfigError, match="Unknown setting 'policy'"):
        build({"policy": {"cell": "gru"}})


def wrong_values(hint: Any) -> list[Any]:
    """Return values of all the types that a field with this hint must not take."""
    text = str(hint)
    candidates: list[tuple[str, Any]] = [
        ("int", 3),
        ("float", 2.5),
        ("str", "some text"),
        ("bool", True),
        ("dict", {"a": 1}),
        ("tuple", ("a", 2.5)),
        ("None", None),
    ]
    accepted = {kind for kind, _ in candidates if kind in text and not (kind == "str" and "Literal" in text)}
    accepted |= {"int"} if "float" in text else set()
    accepted |= {"None"} if "Optional" in text else set()
    if "tuple" in text:
        accepted -= {"int", "float", "str", "tuple"}
    return [value for kind, value in candidates if kind not in accepted]


def test_a_value_of_a_wrong_type_is_refused_by_name_and_value() -> None:
    for name, hint in FIELDS:
        check_wrong_values(name, hint)


def check_wrong_values(name: str, hint: Any) -> None:
    wrong = wrong_values(hint)
    assert len(wrong) >= 4
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"{re.escape(name)} is .*; it must be "):
            build({name: value})


def test_the_message_says_what_would_be_right() -> None:
    for settings, message in [
        ({"num_envs": "many"}, "num_envs is 'many'; it must be a whole number."),
        ({"num_envs": 4.0}, "num_envs is 4.0; it must be a whole number."),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be a number."),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a number."),
        ({"norm_adv": 1}, "norm_adv is 1; it must be true or false."),
        ({"cell": 3}, "cell is 3; it must be text."),
        ({"env_kwargs": [1]}, "env_kwargs is [1]; it must be a table."),
        ({"encoder_sizes": 64}, "encoder_sizes is 64; it must be a list of int."),
        ({"encoder_sizes": [64, "a"]}, "an item of encoder_sizes is 'a'; it must be a whole number."),
        ({"schedule": "cosine"}, "schedule is 'cosine'; it must be one of constant, linear."),
        ({"memory.lifetime": "life"}, "memory.lifetime is 'life'; it must be one of episode, trial, lifelong."),
    ]:
        with pytest.raises(ConfigError) as caught:
            build(settings)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, "total_steps is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"eval_episodes": -1}, "eval_episodes is -1; it must not be negative"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0; it must be at least 1"),
        ({"eval_every": -1}, "eval_every is -1; it must not be negative"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1; it must not be negative"),
        ({"num_threads": -2}, "num_threads is -2; it must not be negative"),
        ({"run_dir": "runs/\udcff"}, r"run_dir is 'runs/\\udcff', where '\\udcff' is no letter: name a path in UTF-8"),
        ({"run_dir": "runs\0"}, r"run_dir is 'runs\\x00', but no path has a NUL"),
        ({"num_envs": 0}, "num_envs is 0; it must be at least 1"),
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"num_layers": -1}, "num_layers is -1; it must be at least 1"),
        ({"encoder_sizes": [8, 0]}, r"encoder_sizes is \(8, 0\); every width must be at least 1"),
        ({"head_sizes": [0]}, r"head_sizes is \(0,\); every width must be at least 1"),
        ({"memory_length": 2}, "memory_length is 2; .* at least 3 steps"),
        ({"num_steps": 0}, "num_steps is 0; it must be at least 1"),
        ({"memory.bptt_horizon": 0}, r"memory.bptt_horizon is 0; it must be at least 1"),
        ({"memory.episodes_per_trial": 0}, r"memory.episodes_per_trial is 0; it must be at least 1"),
        ({"memory.lifetime": "trial"}, r"memory.episodes_per_trial is not set"),
        ({"memory.credit": "lifelong"}, "credit may not outlive memory"),
    ],
)
def test_a_value_out_of_range_is_refused_as_a_config_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(settings)
    build(settings, complete=False)  # A layer that follows may still put it right.


def test_a_layer_to_be_completed_is_checked_for_names_and_types() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'num_envs'"):
        build({"num_env": 3}, complete=False)
    with pytest.raises(ConfigError, match="num_envs is 'a'"):
        build({"num_envs": "a"}, complete=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPOConfig(gamma=2.0), r"gamma is 2.0; it must lie in \[0, 1\]\."),
        (lambda: PPOConfig(gae_lambda=-0.1), r"gae_lambda is -0.1; it must lie in \[0, 1\]\."),
        (lambda: PPOConfig(clip_coef=0.0), r"clip_coef is 0.0; it must be positive\."),
        (lambda: PPOConfig(learning_rate=float("nan")), r"learning_rate is nan; it must be positive\."),
        (lambda: EvolinoConfig(washout=-1), r"washout is -1; it must not be negative\."),
        (lambda: EvolinoConfig(patience=0), r"patience is 0; it must be at least 1\."),
        (lambda: EvolinoConfig(credit="min"), r"credit is 'min'; it must be one of mean, max\."),  # type: ignore[arg-type]
        (lambda: MemoryConfig(credit="life"), r"memory.credit is 'life'; it must be one of episode, trial, lifelong\."),  # type: ignore[arg-type]
    ],
)
def test_ranges_hold_for_configs_made_directly(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_the_ends_of_a_range_belong_to_it() -> None:
    assert (PPOConfig(gamma=0.0, gae_lambda=1.0).gamma, RunConfig(seed=0, eval_every=0).eval_every) == (0.0, 0)
    assert EvolinoConfig(washout=0, patience=1).patience == 1


# Layers


def test_the_upper_layer_wins_and_env_arguments_are_merged_one_by_one() -> None:
    low = {"num_envs": 1, "hidden_size": 2, "env": "a", "env_kwargs": {"x": 1, "y": 1}, "memory": {"bptt_horizon": 3}}
    high = {"num-envs": 5, "env_kwargs": {"y": 2}, "memory.bptt-horizon": 4}
    merged = layer(low, high)
    assert build(merged) == build(
        {"num_envs": 5, "hidden_size": 2, "env": "a", "env_kwargs": {"x": 1, "y": 2}, "memory.bptt_horizon": 4}
    )
    assert layer({}, high)["env_kwargs"] == {"y": 2}
    assert low["env_kwargs"] == {"x": 1, "y": 1}


def test_another_env_takes_over_no_arguments() -> None:
    low = {"env": "a", "env_kwargs": {"x": 1}}
    assert layer(low, {"env": "b"})["env_kwargs"] == {}
    assert layer(low, {"env": "b", "env_kwargs": {"z": 2}})["env_kwargs"] == {"z": 2}
    assert layer(low, {"env": "a", "env_kwargs": {"z": 2}})["env_kwargs"] == {"x": 1, "z": 2}


def test_a_renamed_setting_is_read_by_its_earlier_name(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text("lessons = 7\n")
    for low, high, expected in [
        (read_config_file(path), {}, 7),
        ({"lessons": 7}, {"teacher-sequences": 3}, 3),
        ({"teacher_sequences": 3}, {"lessons": 7}, 7),
    ]:
        config = build_config("evolino", EvolinoConfig, layer(low, high))
        assert config.algorithm.teacher_sequences == expected
        assert "lessons" not in config.settings()


# Files and the run


def test_a_file_that_is_missing_or_no_toml_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Can't read the config file .*none\.toml: No such file"):
        read_config_file(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML: .*line 1"):
        read_config_file(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        read_config_file(str(broken))
    with pytest.raises(ConfigError, match="Can't read the config file"):
        read_config_file(tmp_path)


def test_events_are_due_ten_times_in_a_run_by_default() -> None:
    assert RunConfig(total_steps=1000).interval(None) == 100
    assert RunConfig(total_steps=5).interval(None) == 1
    assert RunConfig(total_steps=1000).interval(0) == 0
    assert RunConfig(total_steps=1000).interval(37) == 37


def test_a_type_outside_its_choices_is_refused_when_made_directly() -> None:
    with pytest.raises(ValueError, match=r"dtype is 'float16'; it must be one of float32, float64"):
        RunConfig(dtype="float16")  # type: ignore[arg-type]


def test_configs_cannot_be_changed_after_they_were_checked() -> None:
    config = build({})
    for part, name in ((config, "agent"), (config.run, "seed"), (config.policy, "cell"), (config.memory, "credit")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, "other")
