"""Flags win over the config file, the file over the preset, the preset over the defaults; every type is readable."""

from pathlib import Path
from typing import Any

import pytest

from rlstm.agents import AGENTS
from rlstm.api.configs import make_config
from rlstm.cli.flag_types import read_key_values
from rlstm.cli.train import experiment
from rlstm.training.config import ConfigError
from rlstm.training.presets import PRESETS


def settings(words: str, agent: str = "ppo") -> dict[str, Any]:
    return experiment(agent, words.split())[0].settings()


def write(text: str) -> None:
    Path("run.toml").write_text(text, encoding="utf-8")


def test_flags_win_over_the_file_and_the_file_over_the_preset() -> None:
    write("hidden_size = 33\nnum-envs = 12\nlearning_rate = 1\n")
    found = settings("--preset tmaze --config run.toml --num-envs 24")
    assert (found["num_envs"], found["hidden_size"], found["num_steps"], found["gamma"]) == (24, 33, 64, 0.99)
    assert found["learning_rate"] == 1.0


def test_a_file_may_group_memory_and_inputs_and_name_the_agent() -> None:
    write('agent = "ppo"\n[memory]\nlifetime = "trial"\nepisodes-per-trial = 2\n[inputs]\nprevious_reward = false\n')
    found = settings("--env X --config=run.toml")
    assert (found["memory.lifetime"], found["memory.episodes_per_trial"]) == ("trial", 2)
    assert found["inputs.previous_reward"] is False


def test_a_flag_completes_what_the_file_left_incomplete() -> None:
    write('[memory]\nlifetime = "trial"\n')
    assert settings("--config run.toml --memory.episodes-per-trial 3")["memory.episodes_per_trial"] == 3
    with pytest.raises(ConfigError, match="episodes_per_trial is not set"):
        settings("--config run.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("learnin_rate = 1", "Unknown setting 'learnin_rate'. Did you mean 'learning_rate'?"),
        ("[memory]\nlifetme = 'trial'", "Did you mean 'memory.lifetime'?"),
        ("num_envs = 'four'", "num_envs is 'four'; it must be a whole number."),
        ("agent = 'random'", "is for agent 'random', the command line names 'ppo'"),
        ("num_envs 4", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_wrong_usage(rlstm, text: str, told: str) -> None:
    write(text)
    result = rlstm("train ppo --env rlstm/TMaze-v0 --config run.toml")
    assert result.code == 2
    assert told in result.err


def test_env_arguments_are_layered_one_by_one() -> None:
    found = settings("--preset tmaze --env-kwargs noise=true --env-kwargs max_steps=99")
    assert found["env_kwargs"] == {"corridor_length": 20, "noise": True, "max_steps": 99}


def test_another_env_takes_over_no_arguments() -> None:
    assert settings("--preset tmaze --env CartPole-v1")["env_kwargs"] == {}
    assert settings("--preset tmaze --env CartPole-v1 --env-kwargs a=1")["env_kwargs"] == {"a": 1}
    same = "--preset tmaze --env rlstm/TMazeContinuous-v0 --env-kwargs corridor_length=20"
    assert settings(same)["env_kwargs"] == {"corridor_length": 20}
    write('env = "CartPole-v1"\n')
    assert settings("--preset tmaze --config run.toml")["env_kwargs"] == {}


def test_values_of_env_kwargs_are_json_or_text() -> None:
    words = ["a=1", "b=0.5", "c=true", "d=null", "e=[1,2]", "f=4x4", 'g="1"', "h=x=y", "i="]
    read = {"a": 1, "b": 0.5, "c": True, "d": None, "e": [1, 2], "f": "4x4", "g": "1", "h": "x=y", "i": ""}
    assert read_key_values(words) == read


@pytest.mark.parametrize(
    "words", ["--env-import a b", "--env-import a --seed 1 --env-import b", "--env_import=a --env-import=b"]
)
def test_modules_to_import_may_be_several_or_repeated(words: str) -> None:
    assert settings(words)["env_import"] == ("a", "b")


VALUES = {
    "--encoder-sizes 64 32": ("encoder_sizes", (64, 32)),
    "--head-sizes": ("head_sizes", ()),
    "--total-steps 1e6": ("total_steps", 1_000_000),
    "--num-steps 1_000": ("num_steps", 1000),
    "--memory.bptt_horizon=16": ("memory.bptt_horizon", 16),
    "--target-kl 1e-2": ("target_kl", 0.01),
    "--initial-log-std -0.5": ("initial_log_std", -0.5),
    "--anneal-lr": ("anneal_lr", True),
    "--no-norm-adv": ("norm_adv", False),
    "--inputs.previous-action": ("inputs.previous_action", True),
    "--inputs.previous-reward false": ("inputs.previous_reward", False),
    "--inputs.episode-start none": ("inputs.episode_start", None),
    "--memory.credit none": ("memory.credit", None),
    "--cell none": ("cell", "none"),
    "--run-dir here": ("run_dir", "here"),
}


def test_every_kind_of_value_is_read() -> None:
    found = settings(" ".join(VALUES))
    for words, (name, value) in VALUES.items():
        assert found[name] == value, words
    words = "--memory.bptt-horizon 16 --memory.bptt-horizon none --encoder-sizes"
    assert (settings(words)["memory.bptt_horizon"], settings(words)["encoder_sizes"]) == (None, ())


@pytest.mark.parametrize(
    "agent", [pytest.param(agent, marks=[] if agent in ("ppo", "evolino") else pytest.mark.slow) for agent in AGENTS]
)
def test_every_setting_of_every_agent_is_a_flag_with_help(rlstm, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = rlstm(f"train {agent} --help").out
    for name in settings("", agent):
        flag = "--" + name.replace("_", "-")
        (line,) = [line for line in text.splitlines() if flag in line.replace(",", " ").split()]
        assert line


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_an_experiment_with_its_values(preset: str) -> None:
    one = PRESETS[preset]
    found = make_config(one.agent, preset).settings()
    assert {name: found[name] for name in one.settings} == dict(one.settings)


@pytest.mark.parametrize("preset", ["bandit", "tmaze-reinforce", "sines"])
def test_the_values_of_a_preset_are_the_defaults_of_its_flags(preset: str) -> None:
    agent = PRESETS[preset].agent
    assert settings(f"--preset {preset}", agent) == make_config(agent, preset).settings()


def test_the_help_shows_the_values_of_the_preset(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "129")  # Too narrow for two columns.
    text = " ".join(rlstm("train ppo --preset tmaze --help").out.replace("│", " ").split())
    assert "(default: rlstm/TMaze-v0)" in text
    assert "(default: corridor_length=20)" in text
    for group in ("env", "run", "policy", "algorithm", "memory", "inputs"):
        assert f" {group} options " in text


def test_a_setting_of_another_agent_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"'exploration' is a setting of ppo, not of reinforce: leave it out\."):
        make_config("reinforce", env="X", exploration="rnd")
