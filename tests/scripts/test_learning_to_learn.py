"""Learning to learn, measured: agents and oracles on the same held-out tasks, and what is written down of it."""

import csv

import numpy as np
import pytest

from rlstm.api import experiments as api
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make, resolve_spec


def play(scripts, task, name, num_trials=5_000, seed=0):
    return scripts.learning_to_learn.play_oracle(task, task.oracles()[name], num_trials, seed)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "bandit"
    memory = {"lifetime": "trial", "episodes_per_trial": 4}
    tiny = {"num_envs": 4, "num_steps": 8, "hidden_size": 4, "total_steps": 64, "eval_episodes": 8, "num_threads": 1}
    api.train("ppo", ui="none", env="rlstm/BernoulliBandit-v0", run_dir=str(path), memory=memory, **tiny)
    return path


def test_agent_and_oracles_play_the_same_tasks_which_no_training_has_used(scripts, run_dir, monkeypatch):
    learning = scripts.learning_to_learn
    monkeypatch.setattr(learning, "CHUNK", 3)
    bandits = []
    reset = VectorEnvs.reset

    def recorded(self, seeds):
        outcome = reset(self, seeds)
        bandits[-1].append(self.get_state()["native"]["probabilities"])
        return outcome

    monkeypatch.setattr(VectorEnvs, "reset", recorded)
    agent = learning.TrainedAgent(str(run_dir), "latest")
    for play_one in (
        lambda: play(scripts, agent.task, "thompson", 8, learning.SEED),
        lambda: play(scripts, agent.task, "random", 8, learning.SEED),
        lambda: agent.play(8, learning.SEED, deterministic=False),
    ):
        bandits.append([])
        assert len(play_one()) == 8
    tasks = [np.concatenate(seen) for seen in bandits]
    assert tasks[0].shape == (8, 5)
    assert len(np.unique(tasks[0], axis=0)) == 8
    assert (tasks[0] == tasks[1]).all()
    assert (tasks[0] == tasks[2]).all()
    trained_on = make(resolve_spec(agent.task.env), agent.task.env, MemoryConfig("trial", episodes_per_trial=4))
    trained_on.reset(integer_seeds(0, "envs", 16))
    assert not np.isin(trained_on.get_state()["native"]["probabilities"], tasks[0]).any()


def test_tasks_on_which_the_run_has_evaluated_itself_are_refused(scripts, run_dir):
    agent = scripts.learning_to_learn.TrainedAgent(str(run_dir), "latest")
    with pytest.raises(ValueError, match="evaluated itself on the tasks of its seed 0: give another --seed"):
        agent.play(8, 0, deterministic=False)


def test_differences_are_paired_with_the_better_reference(scripts):
    totals = np.array([5.0, 9.0, 4.0, 8.0])
    references = {"ucb1": np.array([4.0, 8.0, 3.0, 7.0]), "thompson": np.array([0.0, 9.0, 0.0, 9.0])}
    found = scripts.learning_to_learn.statistics(totals, references)
    assert (found["mean"], found["difference"], found["against"]) == ("6.500", "1.000", "ucb1")
    assert found["difference_error"] == "0.000"  # Task by task it is always 1.
    assert float(found["standard_error"]) == pytest.approx(np.sqrt(17 / 3 / 4), abs=1e-3)


def test_an_evaluation_writes_a_row_a_strategy_and_a_rerun_replaces_them(
    scripts, run_dir, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "results.csv"
    monkeypatch.chdir(run_dir.parent)
    words = ["bandit", "--greedy", "--trials", "50", "--results", str(path)]
    for _ in range(2):
        scripts.learning_to_learn.main(words)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [*scripts.learning_to_learn_tasks.Task("bandit", 4, 5).oracles(), "ppo lstm 4", "ppo lstm 4, greedy"]
    assert [row["strategy"] for row in rows] == names
    assert {(row["task"], row["n"], row["k"], row["trials"]) for row in rows} == {("bandit", "4", "5", "50")}
    by_name = {row["strategy"]: row for row in rows}
    assert by_name["ucb1"]["command"] == "python -m scripts.experiments.learning_to_learn --bandit 4,5 --trials 50"
    assert by_name["ppo lstm 4"]["command"] == "python -m scripts.experiments.learning_to_learn bandit --trials 50"
    assert by_name["ppo lstm 4"]["steps"] == "64"
    for row in rows:
        against = by_name[row["against"]]
        assert float(row["difference"]) == pytest.approx(float(row["mean"]) - float(against["mean"]), abs=2e-3)
    scripts.learning_to_learn.main(["--bandit", "4,2", "--trials", "50", "--results", str(path)])
    assert len(path.read_text().splitlines()) == 1 + len(names) + 7
    assert "gittins" in capsys.readouterr().out


def test_a_remark_is_told_in_the_name_and_in_the_command(scripts, run_dir, tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    monkeypatch.chdir(run_dir.parent)
    words = ["bandit", "--trials", "2", "--results", str(path), "--remark", "by hand"]
    scripts.learning_to_learn.main(words)
    with path.open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert last["strategy"] == "ppo lstm 4, by hand"
    assert last["command"] == "python -m scripts.experiments.learning_to_learn bandit --trials 2 --remark 'by hand'"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"env": "rlstm/TMaze-v0"}, "The run is of 'rlstm/TMaze-v0'"),
        ({"env": "rlstm/BernoulliBandit-v0", "env_kwargs": {"pulls": 5}}, r"with \{'pulls': 5\}"),
        ({"env": "rlstm/BernoulliBandit-v0", "env_kwargs": {"probabilities": "easy"}}, "'easy'"),
        ({"env": "rlstm/TabularMDP-v0", "env_kwargs": {"num_states": 3}}, "with its default sizes"),
        ({"env": "rlstm/BernoulliBandit-v0", "env_wrappers": ("previous",)}, "without wrappers"),
        ({"env": "rlstm/BernoulliBandit-v0", "memory": {}}, "episodes_per_trial None"),
    ],
)
def test_a_run_of_another_task_is_refused_with_what_is_wanted(scripts, settings, complaint):
    config = api.make_config("ppo", **{"memory": {"lifetime": "trial", "episodes_per_trial": 4}, **settings})
    with pytest.raises(ValueError, match=complaint):
        scripts.learning_to_learn_tasks.Task.of_run(config.env, config.memory.episodes_per_trial)


@pytest.mark.parametrize("words", [["--bandit", "100"], ["--bandit", "10,1"], ["--mdp", "0"], []])
def test_an_impossible_task_is_a_wrong_usage(scripts, words, capsys):
    with pytest.raises(SystemExit) as error:
        scripts.learning_to_learn.main(words)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


def row(task, strategy, mean, difference=0.0, **others):
    values = {"task": task.kind, "n": task.episodes, "k": task.arms or "", "strategy": strategy, "mean": mean}
    values |= {"standard_error": 0.25, "difference": difference, "difference_error": 0.1, **others}
    return {name: str(value) for name, value in values.items()}


def test_the_tables_have_agents_oracles_and_published_numbers(scripts, tmp_path, monkeypatch):
    tables = scripts.learning_to_learn_tables
    bandit, mdp = (scripts.learning_to_learn_tasks.Task(*task) for task in (("bandit", 100, 5), ("mdp", 10)))
    page = tmp_path / "RESULTS.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    monkeypatch.setattr(tables, "PAGE", page)
    rows = [row(bandit, "ucb1", 70.0), row(bandit, "ucb1", 78.04), row(mdp, "psrl", 133.7)]
    tables.write_tables([*rows, row(bandit, "ppo gru 64", 78.0, -0.5), row(bandit, "ppo gru 64", 79.0, 0.25)])
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    bandits, mdps = dict(zip(cells[0], cells[2], strict=True)), dict(zip(cells[3], cells[5], strict=True))
    assert bandits["pulls, arms"] == "100, 5"
    assert bandits["its reward"] == "78.50 [78.00, 79.00], 2 runs"
    assert bandits["minus the better of ucb1 and thompson"] == "-0.12 ± 0.10"
    assert (bandits["RL²"], bandits["SNAIL"], bandits["ucb1"]) == ("(78.7)", "(79.1)", "78.0 (78.0)")
    assert (mdps["episodes"], mdps["agent"], mdps["psrl"], mdps["SNAIL"]) == ("10", "", "133.7 (138.1)", "(159.1)")


def test_tables_are_written_between_two_marks_or_not_at_all(scripts, tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text("nothing\n")
    assert not scripts.results_table.write_between(path, "<!-- a -->", "<!-- b -->", "text")
    assert path.read_text() == "nothing\n"
    path.write_text("<!-- b --> <!-- a -->")
    with pytest.raises(ValueError, match="must have '<!-- a -->' once and '<!-- b -->' after it"):
        scripts.results_table.write_between(path, "<!-- a -->", "<!-- b -->", "text")
