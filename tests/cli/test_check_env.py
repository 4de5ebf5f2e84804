"""``rlstm check-env`` tells what is fit, what deserves a look, and what can't be trained."""

from typing import Any

import pytest

from rlstm.cli import env_checks


@pytest.fixture(autouse=True)
def _short_play(monkeypatch: pytest.MonkeyPatch, my_env: None) -> None:
    monkeypatch.setattr(env_checks, "_PLAY_STEPS", 300)


def levels(answer: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["level"] for one in answer["checks"]}


def test_our_envs_are_fit(rlstm) -> None:
    result = rlstm("check-env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --json")
    answer = result.json
    assert (result.code, answer["fit"], answer["verdict"]) == (0, True, "fit")
    assert set(levels(answer).values()) == {"ok"}
    assert (answer["vectorization"], answer["exact_resume"], answer["trials"]) == ("native", True, True)
    assert answer["max_episode_length"] <= 40
    assert answer["steps_per_second"] > 1000


def test_the_report_ends_with_a_verdict_and_fits_the_width(rlstm) -> None:
    result = rlstm("check-env CartPole-v1")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[-1] == "CartPole-v1: fit"
    assert max(map(len, lines)) <= 100
    assert "NEXT_STEP" in result.out
    assert "WARN" not in result.err


@pytest.mark.parametrize(
    ("fault", "check", "told"),
    [
        ("chance", "determinism", "self.np_random"),
        ("float64", "dtypes", "in the type of their space"),
        ("endless", "episodes", "max_episode_steps"),
    ],
)
def test_what_deserves_a_look_is_a_remark(rlstm, fault: str, check: str, told: str) -> None:
    result = rlstm(f"check-env my_env:My-v0 --env-kwargs fault={fault} --json")
    answer = result.json
    assert (result.code, answer["fit"]) == (0, True)
    assert answer["verdict"].startswith("fit with remarks: ")
    assert told in answer["verdict"]
    assert levels(answer)[check] == "remark"


@pytest.mark.parametrize(
    ("fault", "told"), [("raise", "OSError: the simulator has gone"), ("nan", "not finite"), ("inf", "not finite")]
)
def test_an_env_that_breaks_is_not_fit(rlstm, fault: str, told: str) -> None:
    result = rlstm(f"check-env my_env:My-v0 --env-kwargs fault={fault} --json")
    assert (result.code, result.json["fit"]) == (1, False)
    assert result.json["verdict"].startswith("not fit: ")
    assert told in result.json["verdict"]


def test_an_env_that_cannot_be_made_is_not_fit(rlstm) -> None:
    result = rlstm("check-env rlstm/TMaze-v0 --env-kwargs corridor_length=-1")
    assert result.code == 1
    assert result.out.splitlines()[-1].startswith("rlstm/TMaze-v0: not fit: It can't be made: ValueError")


@pytest.mark.filterwarnings("ignore")  # Of the package.
def test_an_unsupported_space_is_named_with_what_is_supported(rlstm) -> None:
    pytest.importorskip("minigrid")
    result = rlstm("check-env MiniGrid-MemoryS7-v0 --env-import minigrid --json")
    assert result.code == 1
    assert "mission is not supported. Supported: Box" in result.json["verdict"]


@pytest.mark.filterwarnings("ignore")  # Of the package.
def test_a_state_that_cannot_be_taken_back_is_no_exact_resume(rlstm) -> None:
    pytest.importorskip("popgym")
    result = rlstm("check-env popgym-RepeatPreviousEasy-v0 --env-import popgym --json")
    assert (result.code, result.json["exact_resume"]) == (0, False)
