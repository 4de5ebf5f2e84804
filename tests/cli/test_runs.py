"""Working with a run that is there: evaluate, resume, Ctrl-C, damage."""

import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest

from rlstm.cli.flag_types import read_key_values

ANSWER = {
    "episodes",
    "mean_return",
    "std_return",
    "mean_length",
    "success_rate",
    "memoryless_return",
    "optimal_return",
    "cut",
    *("run_dir", "checkpoint", "checkpoint_step", "actions", "seed", "ablate_memory", "env_kwargs"),
}


@pytest.fixture
def run(trained: Path) -> Path:
    """A copy of the trained run that may be changed."""
    return Path(shutil.copytree(trained, "run", symlinks=True))


def test_an_evaluation_stands_next_to_the_references(rlstm, trained: Path) -> None:
    answer = rlstm(f"evaluate {trained} --episodes 6 --json").json
    assert answer.keys() == ANSWER
    assert (answer["episodes"], answer["memoryless_return"], answer["optimal_return"]) == (6, 1.95, 4.0)
    assert (answer["checkpoint"], answer["checkpoint_step"], answer["actions"]) == ("latest", 256, "sampled")


def test_an_evaluation_is_readable(rlstm, trained: Path) -> None:
    result = rlstm(f"evaluate {trained} --episodes 6 --actions sampled --ablate-memory --checkpoint 256 --seed 3")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert "6 episodes; checkpoint step 256; sampled actions, seed 3; memory reset before every step" in text
    assert "best without memory 1.95 best possible 4" in text
    assert " ± " in text


def test_an_evaluation_can_be_repeated(rlstm, trained: Path) -> None:
    answers = [rlstm(f"evaluate {trained} --episodes 6 --actions sampled --json").json for _ in range(2)]
    assert answers[0] == answers[1]


def test_the_env_may_be_changed_for_an_evaluation(rlstm, trained: Path) -> None:
    words = f"evaluate {trained} --episodes 4 --json --env-kwargs"
    short, long = (rlstm(f"{words} corridor_length={length} max_steps={length + 1}").json for length in (2, 7))
    assert (short["mean_length"], long["mean_length"]) == (3.0, 8.0)


def test_references_are_null_where_the_env_has_none(rlstm, train) -> None:
    assert train("--env CartPole-v1 --run-dir pole").code == 0
    answer = rlstm("evaluate pole --episodes 2 --json").json
    assert (answer["memoryless_return"], answer["optimal_return"], answer["success_rate"]) == (None, None, None)
    assert "best possible" not in rlstm("evaluate pole --episodes 2").out


def test_a_bound_is_marked_and_trials_have_no_references(rlstm, train) -> None:
    assert train("--env rlstm/PendulumNoVel-v0 --env-kwargs max_steps=5 --run-dir rod").code == 0
    assert "best possible        ≤ 0" in rlstm("evaluate rod --episodes 2").out
    assert rlstm("evaluate rod --episodes 2 --json").json["optimal_return"] == 0.0
    words = "--memory.lifetime trial --memory.episodes-per-trial 2"
    assert train(f"--env rlstm/TwoStep-v0 {words} --run-dir trials").code == 0
    answer = rlstm("evaluate trials --episodes 2 --json").json  # A kept task is known in the second episode.
    assert (answer["memoryless_return"], answer["optimal_return"]) == (None, None)


def test_trials_have_a_mean_of_their_own(rlstm, train) -> None:
    words = "--memory.lifetime trial --memory.episodes-per-trial 2 --env-kwargs corridor_length=2"
    assert train(f"--env rlstm/TMaze-v0 --run-dir trials {words}").code == 0
    answer = rlstm("evaluate trials --episodes 5 --json").json
    assert answer.keys() == ANSWER | {"mean_trial_return"}
    assert answer["episodes"] == 6
    assert answer["mean_trial_return"] == pytest.approx(2 * answer["mean_return"])


def test_a_checkpoint_is_chosen_by_its_step(rlstm, trained: Path) -> None:
    assert rlstm(f"evaluate {trained} --episodes 1 --checkpoint 256 --json").code == 0
    result = rlstm(f"evaluate {trained} --episodes 1 --checkpoint 7 --json")
    assert result.code == 1
    assert "256" in result.json["error"]


def test_resume_goes_on_to_the_new_total(rlstm, run: Path) -> None:
    result = rlstm("resume run --total-steps 512 --ui none --json")
    assert (result.code, result.json["steps"], result.json["run_dir"]) == (0, 512, "run")
    assert (run / "command.txt").read_text(encoding="utf-8").splitlines()[-1].startswith("rlstm resume run")
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["settings"]["total_steps"] == 512


def test_a_finished_run_asks_for_a_larger_total(rlstm, run: Path) -> None:
    result = rlstm("resume run --ui none")
    assert result.code == 2
    assert "Give a larger total with --total-steps" in result.err


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt", "meta.json"])
def test_a_truncated_checkpoint_is_told(rlstm, run: Path, name: str) -> None:
    truncate(next(run.glob(f"checkpoints/step_256/{name}")))
    result = rlstm("resume run --total-steps 512 --ui none --json")
    assert result.code == 1
    assert name in result.json["error"]


@pytest.mark.parametrize("text", ["", "{", '{"agent": "ppo"}', '{"agent": "pp", "settings": {}}', '{"settings": {}}'])
def test_a_damaged_config_is_told(rlstm, run: Path, text: str) -> None:
    (run / "config.json").write_text(text, encoding="utf-8")
    for words in ("evaluate run --json", "resume run --total-steps 512 --ui none --json"):
        result = rlstm(words)
        assert result.code == 1
        assert "config.json" in result.json["error"]


def test_an_edited_config_is_told_and_accepted_on_request(rlstm, run: Path) -> None:
    text = (run / "config.json").read_text(encoding="utf-8")
    (run / "config.json").write_text(text.replace('"max_grad_norm": 0.5', '"max_grad_norm": 0.25'), encoding="utf-8")
    for words in ("evaluate run --json", "resume run --total-steps 512 --ui none --json"):
        result = rlstm(words)
        assert result.code == 1
        assert "say so: rlstm resume run --accept-edits" in result.json["error"]
    result = rlstm("resume run --total-steps 512 --accept-edits --ui plain --json")
    assert (result.code, result.json["steps"]) == (0, 512)
    assert "Edited, and taken as they are now: config.json." in result.err
    assert rlstm("evaluate run --episodes 1 --json").code == 0


def test_a_folder_that_is_no_run_is_told(rlstm, run: Path) -> None:
    result = rlstm("evaluate .")
    assert result.code == 1
    assert "It holds the runs run: name one." in result.err


def test_ctrl_c_saves_and_resume_goes_on(rlstm) -> None:
    words = "train random --env rlstm/TMaze-v0 --num-envs 4 --num-steps 16 --total-steps 10000000 --hidden-size 8"
    words += " --eval-every 0 --num-threads 1 --ui plain --json --run-dir run"

    def interrupt() -> None:
        progress, deadline = Path("run/progress.csv"), time.monotonic() + 60
        while time.monotonic() < deadline:
            if progress.exists() and progress.read_text(encoding="utf-8").count("\n") > 2:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    user = threading.Thread(target=interrupt)
    user.start()
    result = rlstm(words)
    user.join()
    steps = result.json["steps"]
    assert result.code == 130
    assert f"Stopped at step {steps}; go on with: rlstm resume run" in result.err
    result = rlstm(f"resume run --total-steps {steps + 64} --ui none --json")
    assert (result.code, result.json["steps"]) == (0, steps + 64)


def test_a_run_of_an_env_that_a_script_registers_is_played_with_that_script(rlstm, tmp_path) -> None:
    Path("registers.py").write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "gym.register('mine/Pole-v0', lambda **kwargs: CartPoleEnv(**kwargs), max_episode_steps=9)\n"
    )
    small = "--num-threads 1 --ui none --num-envs 4 --num-steps 16 --total-steps 64 --eval-episodes 1 --hidden-size 8"
    assert rlstm(f"train ppo --env mine/Pole-v0 --env-import registers --run-dir mine {small}").code == 0
    config = json.loads(Path("mine/config.json").read_text())
    config["settings"]["env_import"] = []  # As if it had been trained in the script.
    Path("mine/config.json").write_text(json.dumps(config))
    Path("mine/manifest.json").unlink()
    gym.registry.pop("mine/Pole-v0")
    sys.modules.pop("registers")
    answer = rlstm("evaluate mine --episodes 2")
    assert answer.code == 1
    assert "registered first (--env-import MODULE)" in answer.err
    assert rlstm("evaluate mine --episodes 2 --env-import registers").code == 0
    assert rlstm("resume mine --total-steps 128 --ui none --env-import registers").code == 0
    gym.registry.pop("mine/Pole-v0")
    sys.modules.pop("registers")


def test_infinity_may_be_written_as_python_writes_it() -> None:
    assert read_key_values(["a=inf", "b=-inf", "c=Infinity", "d=infinite"]) == {
        "a": math.inf,
        "b": -math.inf,
        "c": math.inf,
        "d": "infinite",
    }


@pytest.fixture
def run_of_my_env(train, my_env) -> None:
    """A run of the user's env, in a process that has not imported it yet."""
    assert train("--env My-v0 --env-import my_env --run-dir run").code == 0
    forget("my_env")


def forget(module: str) -> None:
    del sys.modules[module]
    gym.registry.pop("My-v0")


@pytest.mark.parametrize("verb", ["evaluate run", "record run --episodes 2", "resume run --total-steps 512 --ui none"])
def test_a_module_that_a_run_names_is_imported_if_the_user_names_it(rlstm, run_of_my_env, verb: str) -> None:
    refused = rlstm(f"{verb} --json")
    assert refused.code == 1
    assert "run names the module my_env, and importing runs code." in refused.json["error"]
    assert "add --env-import my_env" in refused.json["error"]
    assert "my_env" not in sys.modules
    assert rlstm(f"{verb} --env-import my_env").code == 0


def test_or_if_the_run_is_trusted(rlstm, run_of_my_env) -> None:
    assert rlstm("evaluate run --episodes 2 --trust --json").json["mean_return"] == 10.0


@pytest.mark.parametrize("words", ["--env My-v0 --env-import my_env", "--env my_env:My-v0"])
def test_commands_that_are_told_name_the_module(rlstm, my_env, words: str) -> None:
    result = rlstm(f"train random {words} --run-dir run --num-envs 4 --num-steps 16 --total-steps 64 --eval-episodes 0")
    assert "rlstm evaluate run --env-import my_env\n" in result.out
    forget("my_env")
    told = rlstm(f"train random {words} --run-dir other --env-kwargs fault=raise --total-steps 64 --num-envs 4")
    assert "rlstm resume other --env-import my_env" in told.err
