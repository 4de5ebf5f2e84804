"""The script that writes an oracle's trials: they are what the oracle played, and an agent can imitate them."""

import numpy as np
import pytest

import rlstm
from rlstm.evaluation.demonstrations import Demonstrations


@pytest.fixture
def script(scripts):
    return scripts.oracle_demonstrations


@pytest.mark.parametrize(
    ("bandit", "mdp", "strategy", "length"), [(None, 2, "beb", 20), ("4,3", None, "gittins", 4)], ids=["mdp", "bandit"]
)
def test_what_is_written_is_what_the_oracle_plays(script, scripts, bandit, mdp, strategy, length) -> None:
    task = scripts.learning_to_learn_tasks.Task.of_flags(bandit, mdp)
    recorded = script.record(task, strategy, 6, seed=8)
    totals = scripts.learning_to_learn.play_oracle(task, task.oracles()[strategy], 6, 8)
    np.testing.assert_allclose(recorded.returns, totals)
    assert recorded.valid.shape == (length, 6)
    assert recorded.valid.all()
    begins = np.arange(length) % (length // task.episodes) == 0
    assert (recorded.episode_starts == begins[:, None]).all()
    assert len(np.unique(recorded.actions)) > 1


def test_an_agent_can_imitate_them_over_whole_trials(script, tmp_path, capsys) -> None:
    file = tmp_path / "trials.safetensors"
    script.main(["--mdp", "2", "--strategy", "beb", "--trials", "5", "--output", str(file)])
    assert "5 trajectories, 10 episodes, 100 steps" in capsys.readouterr().out
    assert Demonstrations.load(file).metadata["strategy"] == "beb"
    result = rlstm.train(
        "teacher",
        env="rlstm/TabularMDP-v0",
        demonstrations=str(file),
        memory={"lifetime": "trial", "episodes_per_trial": 2},
        batch_size=5,
        total_steps=100,
        eval_episodes=4,
        run_dir=str(tmp_path / "run"),
        ui="none",
    )
    assert result.steps == 100


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--mdp", "2", "--strategy", "gittins"], "for mdp there are random, greedy, epsilon-greedy, psrl, beb"),
        (["--bandit", "4", "--strategy", "ucb1"], "bandits are named by episodes and arms"),
        (["--bandit", "4,x", "--strategy", "ucb1"], "'4,x' is no bandit"),
        (["--bandit", "4,3", "--strategy", "ucb1", "--trials", "0"], "--trials is 0"),
        (["--bandit", "4,3", "--strategy", "ucb1", "--seed", "-1"], "--seed is -1"),
        (["--bandit", "4,3", "--strategy", "ucb1", "--output", "no/such/file"], "there is no folder"),
    ],
)
def test_what_no_oracle_plays_is_a_wrong_usage(script, words, complaint, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        script.main(["--output", str(tmp_path / "trials.safetensors"), *words])
    assert error.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
