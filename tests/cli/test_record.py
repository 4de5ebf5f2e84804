"""Demonstrations from the command line: where they go, what is said of them, and what is refused."""

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import rlstm as package
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.demonstrations import Demonstrations

CHOSEN = {"run_dir", "checkpoint", "checkpoint_step", "actions", "seed"}
ANSWER = {"path", "episodes_played", "episodes", "steps", "mean_return", "success_rate"} | CHOSEN


@pytest.fixture
def run(trained: Path) -> Path:
    """A copy of the trained run that may be changed."""
    return Path(shutil.copytree(trained, "run", symlinks=True))


def test_demonstrations_go_into_the_run_and_are_told_in_one_line(rlstm, run: Path) -> None:
    answer = rlstm(f"record {run} --episodes 6 --json").json
    assert answer.keys() == ANSWER
    assert (answer["path"], answer["episodes_played"], answer["episodes"]) == ("run/demonstrations.safetensors", 6, 6)
    loaded = Demonstrations.load(answer["path"])
    assert (loaded.num_steps, loaded.mean_return) == (answer["steps"], answer["mean_return"])
    assert answer["success_rate"] == loaded.successes.mean()


def test_a_recording_is_readable(rlstm, run: Path) -> None:
    result = rlstm(f"record {run} --episodes 6 --actions sampled --checkpoint latest --seed 3 --output mine")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert "played 6 episodes; checkpoint latest, step 256; sampled actions, seed 3; success " in text
    assert "written 6 episodes, " in text
    assert text.endswith("file mine")


def test_the_file_says_which_agent_played_where(rlstm, train) -> None:
    assert train("--env CartPole-v1+mask=0,2 --env-kwargs sutton_barto_reward=true --run-dir run").code == 0
    assert rlstm("record run --episodes 2 --seed 4 --actions sampled --checkpoint 256").code == 0
    metadata = Demonstrations.load("run/demonstrations.safetensors").metadata
    assert {name: metadata[name] for name in ("agent", "step", "seed", "deterministic", "only_successes")} == {
        "agent": "ppo",
        "step": 256,
        "seed": 4,
        "deterministic": False,
        "only_successes": False,
    }
    assert metadata["success_rate"] is None
    spec = EnvSpec.from_json(json.dumps(metadata["env_spec"]))
    assert [wrapper.name for wrapper in spec.additional_wrappers] == ["mask"]
    env = gym.make(spec)
    assert env.unwrapped._sutton_barto_reward
    Demonstrations.load("run/demonstrations.safetensors").check_spaces(env.observation_space, env.action_space)
    # Where nothing is known to succeed, nothing is written.
    result = rlstm("record run --episodes 2 --only-successes --output kept")
    assert (result.code, Path("kept").exists()) == (1, False)
    assert "the env says nothing of success" in result.err


def test_what_a_run_has_recorded_can_be_played_again(trained: Path) -> None:
    written = package.record(trained, episodes=4, output="file", seed=5, deterministic=False)
    demonstrations = Demonstrations.load("file")
    np.testing.assert_array_equal(demonstrations.actions, written.actions)
    spec = EnvSpec.from_json(json.dumps(demonstrations.metadata["env_spec"]))
    for place, seed in enumerate(
        integer_seeds(5, "demonstrations", 4)
    ):  # As many envs as the run had: one episode each.
        env = gym.make(spec)
        shown, _ = env.reset(seed=seed)
        for t in range(demonstrations.lengths[place]):
            np.testing.assert_array_equal(shown, demonstrations.observations[t, place])
            shown, reward, terminated, truncated, _ = env.step(demonstrations.actions[t, place])
            assert reward == demonstrations.rewards[t, place]
        assert terminated or truncated


def test_only_successes_are_kept_and_the_rate_is_of_all(rlstm, run: Path) -> None:
    words = f"record {run} --episodes 40 --actions sampled --json --output"
    everything, kept = rlstm(f"{words} all").json, rlstm(f"{words} kept --only-successes").json
    assert 0 < everything["success_rate"] < 1
    assert kept["success_rate"] == everything["success_rate"] == kept["episodes"] / 40
    assert (everything["episodes_played"], kept["episodes_played"]) == (40, 40)
    assert kept["mean_return"] > everything["mean_return"]
    assert (Demonstrations.load("kept").successes == 1).all()


def test_trials_are_recorded_whole(rlstm, train) -> None:
    words = "--memory.lifetime trial --memory.episodes-per-trial 2 --env-kwargs corridor_length=2"
    assert train(f"--env rlstm/TMaze-v0 --run-dir trials {words}").code == 0
    answer = rlstm("record trials --episodes 5 --json").json
    assert (answer["episodes_played"], answer["episodes"]) == (6, 6)
    assert Demonstrations.load(answer["path"]).num_trajectories == 3


def test_nothing_is_written_over_and_nothing_played_for_it(rlstm, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "demonstrations.safetensors").write_text("precious", encoding="utf-8")
    monkeypatch.setattr("rlstm.api.finished_runs.record_trajectories", lambda *_, **__: pytest.fail("it was played"))
    result = rlstm(f"record {run} --episodes 2")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "error: run/demonstrations.safetensors exists already. Name another file with --output, or move it away.\n"
    )
    assert (run / "demonstrations.safetensors").read_text(encoding="utf-8") == "precious"
    assert "there is no folder nowhere" in rlstm(f"record {run} --episodes 2 --output nowhere/file").err


def test_a_damaged_checkpoint_is_told(rlstm, run: Path) -> None:
    assert "Name another checkpoint" in rlstm(f"record {run} --episodes 2 --checkpoint 7 --json").json["error"]
    assert rlstm("record nowhere --episodes 2").code == 1
