"""Training from the command line: a run directory, an answer, and a plain word when it fails."""

from pathlib import Path

import pytest

ANSWER = {"run_dir", "steps", "wall_seconds", "steps_per_second", "mean_return", "success_rate"}
ANSWER |= {"eval_return", "eval_actions", "best_return", "best_step", "interrupted", "complete"}


def test_training_tells_where_the_run_is_and_what_to_do_next(rlstm) -> None:
    words = "--num-threads 1 --ui none --num-envs 4 --num-steps 16 --total-steps 64 --eval-episodes 1"
    result = rlstm(f"train random --env rlstm/TMaze-v0 --run-dir a/b {words}")
    assert (result.code, result.err) == (0, "")
    for line in ("run        a/b", "evaluate   rlstm evaluate a/b", "curves     tensorboard --logdir a/b"):
        assert line in result.out
    command = Path("a/b/command.txt").read_text(encoding="utf-8")
    assert command == f"rlstm train random --env rlstm/TMaze-v0 --run-dir a/b {words}\n"


def test_the_answer_is_one_object_with_the_agreed_names(train) -> None:
    result = train("--env rlstm/TMaze-v0 --env-kwargs corridor_length=3")
    answer = result.json
    assert result.code == 0
    assert answer.keys() == ANSWER
    assert answer["steps"] == 256
    assert 0 <= answer["success_rate"] <= 1
    assert Path(answer["run_dir"]).parent == Path("runs/rlstm-TMaze-v0")


def test_what_is_unknown_is_null(train) -> None:
    answer = train("--env rlstm/TMaze-v0 --env-kwargs corridor_length=90").json
    assert (answer["mean_return"], answer["success_rate"]) == (None, None)


def test_a_run_without_settings_is_told_of_presets_for_its_env(train, tmp_path) -> None:
    assert (
        "There are presets for this env: --preset tmaze or --preset tmaze-long"
        in train("--env rlstm/TMaze-v0 --ui plain").err
    )
    assert (
        "There is a preset for this env: --preset cartpole-no-vel"
        in train("--env rlstm/CartPoleNoVel-v0 --ui plain").err
    )
    Path("some.toml").write_text("num_envs = 4", encoding="utf-8")
    for words in ("--env CartPole-v1", "--preset tmaze", "--env rlstm/TMaze-v0 --config some.toml"):
        assert "preset" not in train(f"{words} --ui plain").err


def test_the_display_goes_to_stderr(train) -> None:
    result = train("--env rlstm/TMaze-v0 --ui plain")
    assert result.json["steps"] == 256
    assert "step 256/256" in result.err


@pytest.mark.parametrize("words", ["--env my_env:My-v0", "--env My-v0 --env-import my_env"])
def test_an_env_in_the_current_folder_is_found(train, my_env, words: str) -> None:
    result = train(words)
    assert result.code == 0
    assert result.json["mean_return"] == 10.0
    assert "hello from the env" in result.err


def test_a_module_that_is_not_there_is_told(train) -> None:
    result = train("--env My-v0 --env-import my_envv")
    assert result.code == 1
    assert "Could not import the env module 'my_envv'" in result.json["error"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [("raise", "OSError: the simulator has gone"), ("infinite", "reward that is not finite")],
)
def test_an_env_that_breaks_leaves_a_checkpoint_and_a_message(rlstm, train, my_env, fault: str, told: str) -> None:
    result = train(f"--env my_env:My-v0 --env-kwargs fault={fault} --run-dir run")
    assert result.code == 1
    assert told in result.json["error"]
    assert "is saved: rlstm resume run" in result.json["error"]
    assert "Traceback" not in result.err
    assert (Path("run/checkpoints/latest")).exists()
    assert rlstm("evaluate run --episodes 2 --env-kwargs fault= --json").json["mean_return"] == 10.0


def test_env_arguments_that_the_env_refuses_are_a_failure(train) -> None:
    result = train("--env rlstm/TMaze-v0 --env-kwargs corridor_length=-1")
    assert result.code == 1
    assert "corridor_length must be an integer >= 1" in result.json["error"]


def test_a_run_directory_that_exists_is_refused(train, trained: Path) -> None:
    result = train(f"--env rlstm/TMaze-v0 --run-dir {trained}")
    assert result.code == 1
    assert f"`rlstm resume {trained}`" in result.json["error"]


def test_a_run_directory_that_cannot_be_written_is_told(train) -> None:
    Path("file").touch()
    result = train("--env rlstm/TMaze-v0 --run-dir file/run")
    assert result.code == 1
    assert "can't write the run directory file/run" in result.json["error"]


@pytest.mark.parametrize(
    "words",
    [
        "Pendulum-v1",
        pytest.param("CartPole-v1", marks=pytest.mark.slow),
        pytest.param("FrozenLake-v1 --env-kwargs is_slippery=false map_name=4x4", marks=pytest.mark.slow),
    ],
)
def test_envs_of_gymnasium_train(train, words: str) -> None:
    result = train(f"--env {words}")
    assert (result.code, result.json["success_rate"]) == (0, None)


EPISODES = "--num-threads 1 --ui none --num-envs 4 --hidden-size 8 --num-episodes 6 --eval-episodes 4 --json"


def test_reinforce_trains_on_complete_episodes_resumes_and_is_evaluated(rlstm) -> None:
    words = f"--env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --run-dir run --baseline mean {EPISODES}"
    answer = rlstm(f"train reinforce {words} --total-steps 200").json
    assert answer.keys() == ANSWER
    assert answer["steps"] >= 200
    assert rlstm("resume run --total-steps 400 --ui none --json").json["steps"] >= 400
    assert rlstm("evaluate run --episodes 3 --json").json["episodes"] == 3
    header, *rows = Path("run/progress.csv").read_text(encoding="utf-8").splitlines()
    shares = [float(row.split(",")[header.split(",").index("rollout/fill_share")]) for row in rows]
    assert all(0 < share <= 1 for share in shares)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--memory.lifetime lifelong", "memory.lifetime is 'lifelong'"),
        ("--memory.lifetime trial --memory.episodes-per-trial 4", "no whole number of trials of 4 episodes; use 8"),
        ("--baseline median", "median"),
        ("--num-steps 64", "--num-steps"),
    ],
)
def test_what_reinforce_can_not_do_is_wrong_usage(rlstm, words: str, told: str) -> None:
    result = rlstm(f"train reinforce --env rlstm/TMaze-v0 --run-dir run {EPISODES} {words}")
    assert result.code == 2
    assert told in result.json["error"]
    assert not Path("run").exists()


def test_an_env_whose_episodes_never_end_is_told_to_reinforce(rlstm, my_env, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlstm.rollouts.collect._LONGEST_TRAJECTORY", 200)
    result = rlstm(f"train reinforce --env my_env:My-v0 --env-kwargs fault=endless {EPISODES}")
    assert result.code == 1
    assert "A trajectory has not ended after 200 steps" in result.json["error"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of the package.
def test_envs_of_popgym_train(train) -> None:
    pytest.importorskip("popgym")
    result = train("--env popgym-RepeatPreviousEasy-v0 --env-import popgym")
    assert result.code == 0


def test_an_unsupported_part_of_the_observation_is_named(train, my_env: None) -> None:
    source = Path("my_env.py").read_text(encoding="utf-8")
    unsupported = "gym.spaces.Dict(seen=gym.spaces.Discrete(2), heard=gym.spaces.Sequence(gym.spaces.Discrete(2)))"
    source = source.replace("gym.spaces.Box(-1.0, 1.0, (2,), np.float32)", unsupported)
    Path("my_env.py").write_text(source, encoding="utf-8")
    result = train("--env my_env:My-v0")
    assert result.code == 2
    assert "heard is not supported. Supported: Box" in result.json["error"]
