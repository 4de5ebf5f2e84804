"""Wrappers from the command line: by id or flag, in config files and presets, evaluated, resumed and loaded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import rlstm as package
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.cli.train import experiment
from rlstm.core.errors import UnknownNameError
from rlstm.envs.wrappers import WRAPPERS
from rlstm.training.config import ConfigError
from rlstm.training.config_layers import layer
from rlstm.vector.config import EnvConfig


def env_of(words: str) -> tuple[str, tuple[str, ...], dict[str, object]]:
    env = experiment("ppo", words.split())[0].env
    return env.env, env.env_wrappers, env.env_kwargs


@pytest.mark.parametrize(
    "words",
    [
        "--env CartPole-v1+mask=0,2+flicker=0.3",
        "--env CartPole-v1 --env-wrappers mask=0,2 flicker=0.3",
        "--env CartPole-v1+mask=0,2 --env-wrappers flicker=0.3",
        "--env-wrappers flicker=0.3 --env=CartPole-v1+mask=0,2",
    ],
)
def test_the_id_and_the_flag_say_the_same_and_the_id_is_innermost(words: str) -> None:
    assert env_of(words) == ("CartPole-v1", ("mask=0,2", "flicker=0.3"), {})
    names = [one.name for one in resolve_env(experiment("ppo", words.split())[0].env).additional_wrappers]
    assert names == ["mask", "flicker"]


def test_a_module_may_be_named_before_the_id() -> None:
    assert env_of("--env my_env:My-v0+delay=2")[:2] == ("my_env:My-v0", ("delay=2",))


def test_wrappers_keep_the_arguments_of_the_presets_env() -> None:
    env, wrappers, kwargs = env_of("--preset tmaze --env rlstm/TMaze-v0+flicker=0.1")
    assert (env, wrappers, kwargs["corridor_length"]) == ("rlstm/TMaze-v0", ("flicker=0.1",), 20)
    env, wrappers, kwargs = env_of("--preset tmaze --env-wrappers delay=1")
    assert (env, wrappers, kwargs["corridor_length"]) == ("rlstm/TMaze-v0", ("delay=1",), 20)


def test_a_config_file_may_name_them_too_and_flags_win() -> None:
    Path("run.toml").write_text('env = "CartPole-v1+mask=0"', encoding="utf-8")
    assert env_of("--config run.toml --env-wrappers delay=1")[1] == ("delay=1",)
    assert env_of("--config run.toml --env CartPole-v1+delay=1")[1] == ("delay=1",)
    Path("run.toml").write_text('env = "CartPole-v1"\nenv_wrappers = ["mask=0"]', encoding="utf-8")
    assert env_of("--config run.toml --seed 3")[1] == ("mask=0",)
    assert env_of("--config run.toml --env CartPole-v1")[1] == ("mask=0",)
    assert env_of("--config run.toml --env Acrobot-v1")[1] == ()
    assert env_of("--config run.toml --env Acrobot-v1+delay=3")[1] == ("delay=3",)


def test_a_file_that_names_no_env_keeps_its_wrappers() -> None:
    Path("run.toml").write_text('env_wrappers = ["delay=1"]', encoding="utf-8")
    assert env_of("--config run.toml --env CartPole-v1")[1] == ("delay=1",)


def test_layers_and_configs_in_python_read_the_same_form() -> None:
    merged = layer({"env": "A+x=1", "env_kwargs": {"k": 1}}, {"env": "A", "env_kwargs": {"l": 2}})
    assert merged == {"env": "A", "env_wrappers": ("x=1",), "env_kwargs": {"k": 1, "l": 2}}
    config = EnvConfig(env="A+x=1+y", env_wrappers=("z",))
    assert (config.env, config.env_wrappers) == ("A", ("x=1", "y", "z"))
    again = make_config("ppo", **make_config("ppo", env="A+x=1", env_wrappers=["z"]).settings())
    assert again.env.env_wrappers == ("x=1", "z")
    with pytest.raises(ConfigError, match="env_wrappers is 'mask'; it must be a list of str"):
        make_config("ppo", env="A+x=1", env_wrappers="mask")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("flikker=1", "Unknown wrapper 'flikker'. Did you mean 'flicker'?"),
        ("=1", "Unknown wrapper ''."),
        ("flicker=1.5", "Wrapper 'flicker=1.5': flicker needs a number in [0, 1]"),
        ("flicker=", "Wrapper 'flicker=': flicker needs a number in [0, 1]"),
        ("flicker=nan", "flicker needs a number in [0, 1]"),
        ("sticky=-0.1", "sticky needs a number in [0, 1]"),
        ("noise", "noise needs a number >= 0"),
        ("noise=inf", "noise needs a number >= 0"),
        ("delay=0", "delay needs a whole number of steps >= 1"),
        ("delay=1.5", "delay needs a whole number of steps >= 1"),
        ("one_hot", "one_hot needs the count of different numbers, 2 or more"),
        ("one_hot=1", "one_hot needs the count"),
        ("one_hot=x", "one_hot needs the count"),
        ("mask", "mask needs different indices"),
        ("mask=0,,1", "mask needs different indices"),
        ("mask=1,1", "mask needs different indices"),
        ("mask=-1", "mask needs different indices"),
        ("actions", "actions needs different numbers of actions to keep"),
        ("actions=0,0", "actions needs different numbers of actions to keep"),
        ("view", "view needs an odd number of cells >= 3"),
        ("view=2", "view needs an odd number of cells >= 3"),
        ("previous=1", "previous takes no value"),
        ("markovian=", "markovian takes no value"),
    ],
)
def test_wrong_wrappers_are_refused(words: str, told: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=re.escape(told)):
        resolve_env(EnvConfig(env="rlstm/TMaze-v0", env_wrappers=(words,)))


@pytest.mark.parametrize("words", ["+flicker=1.5", " --env-wrappers flicker=1.5"])
def test_wrong_wrappers_are_wrong_usage(rlstm, words: str) -> None:
    result = rlstm(f"train ppo --env rlstm/TMaze-v0{words}")
    assert (result.code, result.out) == (2, "")
    assert "Wrapper 'flicker=1.5': flicker needs a number in [0, 1]" in result.err
    assert not Path("runs").exists()


def test_an_index_that_the_env_lacks_is_named(train) -> None:
    result = train("--env CartPole-v1+mask=0,7")
    assert result.code == 1
    assert "mask keeps [0, 7]; it must list one or more different indices from 0 to 3" in result.json["error"]


@pytest.mark.parametrize(
    ("env_id", "told"),
    [
        ("CartPole-v1+actions=0,5", "actions keeps [0, 5]; it must list one or more different actions from 0 to 1"),
        ("rlstm/TMaze-v0+actions=0,5", "actions keeps [0, 5]; it must list one or more different actions from 0 to 3"),
        ("Pendulum-v1+actions=0", "actions keeps some of a Discrete space's, but the actions are Box"),
        ("CartPole-v1+view=3", "view cuts MiniGrid's picture, a Box (W, W, 3)"),
        (
            "rlstm/MiniGridMemoryS7-v0+view=7",
            "The size of view is 7; it must be odd and less than the picture's width, 7",
        ),
    ],
)
def test_actions_and_views_that_the_env_lacks_are_named(train, env_id: str, told: str) -> None:
    result = train(f"--env {env_id}")
    assert result.code == 1
    assert told in result.json["error"]
    assert not list(Path().glob("runs/*/checkpoints/*"))


def test_a_run_of_fewer_actions_and_a_near_view_is_resumed_evaluated_and_loaded(rlstm, train) -> None:
    words = "--env rlstm/MiniGridMemoryS7-v0+actions=0,1,2+view=3 --run-dir run"
    result = train(f"{words} --total-steps 256")
    assert (result.code, "say which with --image-layout chw or hwc" in result.json["error"]) == (2, True)
    assert train(f"{words} --total-steps 256 --image-layout hwc").code == 0
    assert rlstm("resume run --total-steps 512 --ui none --json").code == 0
    assert rlstm("evaluate run --episodes 2 --json").code == 0
    agent = package.load("run")
    assert (agent.policy.action_space.n, agent.policy.observation_space.shape) == (3, (3, 3, 3))
    assert agent.act(np.zeros((3, 3, 3), dtype=np.uint8)) in (0, 1, 2)


def test_the_help_shows_every_wrapper(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for verb in ("train ppo", "check-env"):
        text = " ".join(rlstm(f"{verb} --help").out.replace("│", " ").split())
        assert all(row.usage in text for row in WRAPPERS.values())


STACK = "sticky=0.3+noise=0.1+previous+delay=2+flicker=0.2"


@pytest.mark.parametrize(
    ("wrappers", "kind"),
    [
        (STACK, "native"),
        pytest.param(STACK, "sync", marks=pytest.mark.slow),
        pytest.param("markovian", "native", marks=pytest.mark.slow),
        ("markovian", "sync"),
    ],
)
def test_a_run_resumed_under_wrappers_equals_one_that_never_stopped(rlstm, train, wrappers: str, kind: str) -> None:
    words = f"--env rlstm/TMaze-v0+{wrappers} --env-kwargs corridor_length=3 --vectorization {kind} --eval-every 0"
    assert train(f"{words} --run-dir whole --total-steps 512").code == 0
    assert train(f"{words} --run-dir halves --total-steps 256").code == 0
    assert rlstm("resume halves --total-steps 512 --ui none --json").code == 0
    one, other = (load_file(f"{run}/checkpoints/step_512/model.safetensors") for run in ("whole", "halves"))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_wrapped_run_is_evaluated_and_loaded_with_its_wrappers(rlstm, train) -> None:
    assert train("--env CartPole-v1+mask=0,2 --env-wrappers flicker=0.3 --run-dir run").code == 0
    spec = json.loads(Path("run/env_spec.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in spec["additional_wrappers"]] == ["mask", "flicker"]
    settings = json.loads(Path("run/config.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["env"], settings["env_wrappers"]) == ("CartPole-v1", ["mask=0,2", "flicker=0.3"])
    result = rlstm("evaluate run --episodes 3 --json")
    assert (result.code, result.json["episodes"]) == (0, 3)
    agent = package.load("run")
    assert agent.policy.observation_space.shape == (2,)
    assert agent.act(np.zeros(2, dtype=np.float32)) in (0, 1)


def test_python_takes_them_too() -> None:
    result = package.train(
        "random",
        env="rlstm/TMaze-v0+delay=1",
        env_wrappers=["flicker=0.5"],
        total_steps=64,
        num_envs=4,
        num_steps=16,
        eval_episodes=1,
        ui="none",
        num_threads=1,
    )
    spec = json.loads((Path(result.run_dir) / "env_spec.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in spec["additional_wrappers"]] == ["delay", "flicker"]
