"""``rlstm check-env`` tells what is fit, what deserves a look, and what can't be trained."""

import re
from pathlib import Path
from typing import Any

import pytest

import rlstm as rlstm_library
from rlstm.api.env_checks import checks, play
from rlstm.cli.tables import WIDTH
from rlstm.core.errors import NonFiniteError

# Faults that only show in the checks.
FAULTS = """
import numpy as np

class More(gym.Env):
    def __init_subclass__(cls):
        make, step = cls.__init__, cls.step

        def new_make(self, fault="", length=10):
            make(self, fault, length)
            if fault == "words":
                self.observation_space = gym.spaces.Text(4)

        def new_step(self, action):
            observation, *rest = step(self, action)
            return observation + (1 if self.fault == "bounds" and self.t == 3 else 0), *rest

        cls.__init__, cls.step = new_make, new_step
"""


@pytest.fixture(autouse=True)
def _short_play(monkeypatch: pytest.MonkeyPatch, my_env: None) -> None:
    monkeypatch.setattr(checks, "_PLAY_STEPS", 300)
    source = Path("my_env.py").read_text(encoding="utf-8").replace("import numpy as np", FAULTS)
    Path("my_env.py").write_text(source.replace("MyEnv(gym.Env)", "MyEnv(More)"), encoding="utf-8")


def levels(answer: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["level"] for one in answer["checks"]}


def finding(answer: dict[str, Any], check: str) -> str:
    (found,) = [one["finding"] for one in answer["checks"] if one["check"] == check]
    return found


def test_our_envs_are_fit(rlstm) -> None:
    result = rlstm("check-env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --train-steps 2048 --json")
    answer = result.json
    assert (result.code, answer["fit"], answer["verdict"]) == (0, True, "fit")
    assert {check for check, level in levels(answer).items() if level != "ok"} <= {"learning"}
    assert (answer["vectorization"], answer["exact_resume"], answer["trials"]) == ("native", True, True)
    assert answer["max_episode_length"] <= 40
    assert answer["steps_per_second"] > answer["training_steps_per_second"] > 0
    assert (answer["memoryless_return"], answer["optimal_return"]) == (1.95, 4.0)
    assert -4 < answer["random_return"] < 1.95
    assert -4 < answer["memoryless_estimate"] < 4
    for told in ("in 2,048 steps", "random play: ", "best without memory: 1.95", "best of all: 4"):
        assert told in finding(answer, "learning")
    assert "exactly as single envs do" in finding(answer, "autoreset")


def test_the_report_ends_with_a_verdict_and_fits_the_width(rlstm) -> None:
    result = rlstm("check-env CartPole-v1 --train-steps 0")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[-1] == "CartPole-v1: fit"
    assert max(map(len, lines)) <= WIDTH
    assert "NEXT_STEP" in result.out
    assert "WARN" not in result.err


@pytest.mark.parametrize(
    ("fault", "check", "told"),
    [
        ("chance", "determinism", "self.np_random"),
        ("float64", "dtypes", "in the type of their space"),
        ("endless", "episodes", "max_episode_steps"),
        ("bounds", "bounds", "Widen the observation space"),
    ],
)
def test_what_deserves_a_look_is_a_remark(rlstm, fault: str, check: str, told: str) -> None:
    result = rlstm(f"check-env my_env:My-v0 --env-kwargs fault={fault} --train-steps 0 --json")
    answer = result.json
    assert (result.code, answer["fit"]) == (0, True)
    assert answer["verdict"].startswith("fit with remarks: ")
    assert told in answer["verdict"]
    assert levels(answer)[check] == "remark"


def test_nothing_learnt_and_actions_without_bounds_are_hints(rlstm) -> None:
    Path("open_env.py").write_text(
        "import my_env, gymnasium as gym\n"
        "class Open(my_env.MyEnv):\n"
        "    action_space = gym.spaces.Box(0.0, float('inf'), (1,))\n"
        "gym.register('Open-v0', 'open_env:Open')\n",
        encoding="utf-8",
    )
    answer = rlstm("check-env open_env:Open-v0 --train-steps 2048 --json").json
    assert answer["fit"] is True
    assert (levels(answer)["spaces"], levels(answer)["learning"]) == ("hint", "hint")
    assert "no better than at random" in finding(answer, "learning")  # It pays the same for everything.
    (advice,) = [one["advice"] for one in answer["checks"] if one["check"] == "spaces"]
    assert "give finite bounds" in advice


def test_the_check_is_a_function_too(monkeypatch: pytest.MonkeyPatch, my_env: None) -> None:
    monkeypatch.syspath_prepend(".")
    report = rlstm_library.check_env("my_env:My-v0", env_kwargs={"fault": "endless"}, train_steps=0)
    assert report.fit
    assert report.verdict.startswith("fit with remarks: Give the env an end")
    assert "remark  episodes     none ended" in str(report)
    assert report.measured["training_steps_per_second"] is None
    with pytest.raises(ValueError, match="train_steps is -1"):
        rlstm_library.check_env("my_env:My-v0", train_steps=-1)


@pytest.mark.parametrize(("fault", "told"), [("raise", "OSError: the simulator has gone"), ("gap", "not finite")])
def test_an_env_that_breaks_is_not_fit(rlstm, fault: str, told: str) -> None:
    result = rlstm(f"check-env my_env:My-v0 --env-kwargs fault={fault} --train-steps 0 --json")
    assert (result.code, result.json["fit"]) == (1, False)
    assert result.json["verdict"].startswith("not fit: ")
    assert told in result.json["verdict"]


def test_an_env_that_cannot_be_made_is_not_fit(rlstm) -> None:
    result = rlstm("check-env rlstm/TMaze-v0 --env-kwargs corridor_length=-1")
    assert result.code == 1
    assert result.out.splitlines()[-1].startswith("rlstm/TMaze-v0: not fit: It can't be made: ValueError")


def test_an_unsupported_space_is_named_with_what_is_supported(rlstm) -> None:
    result = rlstm("check-env my_env:My-v0 --env-kwargs fault=words --json")
    assert result.code == 1
    assert "Text" in result.json["verdict"]
    assert "is not supported. Supported: Box" in result.json["verdict"]


@pytest.mark.slow  # A long import; the same claim of an env of its own: tests/vector.
@pytest.mark.filterwarnings("ignore")  # Of the package.
def test_text_beside_other_observations_is_left_out(rlstm) -> None:
    pytest.importorskip("minigrid", reason="minigrid is not installed")
    result = rlstm("check-env MiniGrid-MemoryS7-v0 --env-import minigrid --train-steps 0 --json")
    assert result.code == 0
    assert "the text in 'mission' is left out" in finding(result.json, "lanes")


@pytest.mark.filterwarnings("ignore")  # Of the package.
def test_a_state_that_cannot_be_taken_back_is_no_exact_resume(rlstm) -> None:
    pytest.importorskip("popgym")
    result = rlstm("check-env popgym-RepeatPreviousEasy-v0 --env-import popgym --train-steps 0 --json")
    assert (result.code, result.json["exact_resume"]) == (0, False)


def test_wrappers_are_checked_with_the_env(rlstm) -> None:
    words = "--env-kwargs corridor_length=3 --env-wrappers flicker=0.5 delay=1 --train-steps 0 --json"
    result = rlstm(f"check-env rlstm/TMaze-v0+mask=0 {words}")
    answer = result.json
    assert (result.code, answer["vectorization"], answer["exact_resume"]) == (0, "native", True)
    assert "observations Box(0.0, 1.0, (1,), float32)" in finding(answer, "spaces")
    assert "exactly as single envs do" in finding(answer, "autoreset")
    # The references are those of the whole observation.
    assert (answer["memoryless_return"], answer["optimal_return"]) == (None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("rlstm/TMaze-v0+flikker", "Unknown wrapper 'flikker'. Did you mean 'flicker'?"),
        ("rlstm/TMaze-v0 --env-wrappers flicker=7", "flicker needs a number in [0, 1]"),
        ("rlstm/TMaze-v0 --train-steps -1", "--train-steps is -1"),
    ],
)
def test_wrong_usage(rlstm, words: str, told: str) -> None:
    result = rlstm(f"check-env {words}")
    assert result.code == 2
    assert told in result.err


def test_a_wrapper_that_does_not_fit_makes_it_unfit(rlstm) -> None:
    result = rlstm("check-env CartPole-v1+markovian")
    assert result.code == 1
    assert "hidden_state" in result.out.replace("\n", " ")


def test_a_training_that_fails_makes_it_unfit(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NonFiniteError("the loss is not finite")

    monkeypatch.setattr(checks, "train_without_memory", fail)
    result = rlstm("check-env my_env:My-v0 --json")
    assert result.code == 1
    assert "A short training fails: the loss is not finite" in result.json["verdict"]


def test_the_short_training_has_no_memory_and_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlstm.api.envs import resolve_env
    from rlstm.vector.config import EnvConfig

    config = EnvConfig(env="rlstm/TMaze-v0", env_kwargs={"corridor_length": 2})
    run = play.train_without_memory(resolve_env(config), config, 10)
    assert run.steps == 2048  # A whole rollout.
    monkeypatch.setattr(play, "TRAIN_SECONDS", 0.0)
    run = play.train_without_memory(resolve_env(config), config, 10**9)
    assert run == (0, None, None, 0.0)
    assert run.beside({}).startswith("trains, but no episode ended")


def test_each_check_is_announced_on_stderr_and_nothing_with_json(rlstm) -> None:
    words = "check-env rlstm/TMaze-v0 --env-kwargs corridor_length=2 --train-steps 64"
    told = rlstm(words)
    assert "checking" not in told.out
    announced = [re.match(r"checking: ([a-z, ]+)", line)[1].rstrip() for line in told.err.splitlines()]
    assert announced[0] == "imports"
    found = rlstm(f"{words} --json")
    assert found.err == ""
    slow = [one["check"] for one in found.json["checks"] if one["check"] not in ("trials", "spaces")]
    assert ", ".join(announced[1:]).split(", ") == slow
