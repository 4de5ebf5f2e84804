"""Evolino: the champion, the readouts, the teacher, workers, resuming, and what is refused."""

import copy
import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlstm
from rlstm.agents.evolino import Evolino, EvolinoConfig
from rlstm.api import experiments as api
from rlstm.api.finished_runs import evaluate_run
from rlstm.core.errors import EnvironmentFailure, UnsupportedSpaceError
from rlstm.core.trees import tree_leaves
from rlstm.evolution.fitness import FitnessResult, shard_sizes
from rlstm.evolution.strategies import STRATEGIES
from rlstm.evolution.teacher_sequences import play_teacher_sequences, teacher_sequences_from_demonstrations
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.generations import Evolution
from rlstm.training.run import TrainResult
from rlstm.training.run_directory import RunDirectory

MAZE: dict[str, Any] = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3},
    "num_envs": 2,
    "hidden_size": 3,
    "population": 8,
    "sigma": 0.5,
    "confirm_episodes": 4,
    "total_steps": 3000,
    "eval_episodes": 4,
}
SINES: dict[str, Any] = {
    "env": "rlstm/Sines-v0",
    "env_kwargs": {"feedback": True, "washout": 60, "free_run": 40},
    "dtype": "float64",
    "num_envs": 2,
    "teacher_sequences": 3,
    "hidden_size": 8,
    "population": 10,
    "input_gain": 0.01,
    "washout": 60,
    "confirm_episodes": 4,
    "total_steps": 8000,
    "eval_episodes": 8,
}


STRINGS: dict[str, Any] = {
    "env": "rlstm/AnBnCn-v0",
    "env_kwargs": {"max_n": 3},
    "dtype": "float64",
    "readout": "lstsq",
    "fitness": "error",
    "num_envs": 5,
    "teacher_sequences": 4,
    "hidden_size": 4,
    "population": 8,
    "sigma": 1.0,
    "confirm_episodes": 4,
    "total_steps": 3000,
    "eval_episodes": 4,
}


def make(settings: dict[str, Any], **more: Any) -> Evolution:
    config = api.make_config("evolino", **{**settings, **more})
    training, _ = api._make_training(config)
    assert isinstance(training, Evolution)
    return training


def train(path: Path, settings: dict[str, Any], **more: Any) -> TrainResult:
    return api.train("evolino", ui="none", run_dir=str(path), **{**settings, **more})


def states(path: Path) -> str:
    checkpoint = load_checkpoint(RunDirectory.open(path), "latest")
    # A run that ends is evaluated then: what was best may differ.
    trainer = {name: value for name, value in checkpoint.trainer.items() if name not in ("seconds", "best_return")}
    leaves = [
        leaf.tolist() if hasattr(leaf, "tolist") else leaf
        for leaf in tree_leaves([trainer, dict(sorted(checkpoint.model.items()))])
    ]
    return repr((checkpoint.step, leaves))


def test_two_sines_are_continued_from_a_readout_in_closed_form(tmp_path: Path) -> None:
    train(tmp_path / "run", SINES)
    result = evaluate_run(tmp_path / "run", episodes=8, checkpoint="latest")
    nrmse = np.sqrt(-result.returns / 40 / 0.25)
    assert np.median(nrmse) < 1e-2
    assert result.success_rate == 1.0


def test_evaluation_needs_no_teacher_and_a_loaded_agent_goes_on_alone(tmp_path: Path) -> None:
    train(tmp_path / "run", SINES)
    agent = rlstm.load(tmp_path / "run")
    env = gym.make("rlstm/Sines-v0", feedback=True, washout=60, free_run=40)
    observation, _ = env.reset(seed=3)
    errors = []
    for step in range(100):
        observation, _, _, _, info = env.step(agent.act(observation))
        if step >= 60:
            errors.append(float(observation[0]) - float(info["target"][0]))
    assert np.sqrt(np.mean(np.square(errors))) < 1e-2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_resumes_to_the_last_bit(tmp_path: Path, strategy: str) -> None:
    settings = {**MAZE, "strategy": strategy, "checkpoint_every": 1, "keep_checkpoints": 99, "eval_every": 0}
    train(tmp_path / "whole", settings, patience=3)
    steps = list_checkpoints(RunDirectory.open(tmp_path / "whole"))
    assert len(steps) >= 5
    train(tmp_path / "half", settings, patience=3, total_steps=steps[len(steps) // 2])
    assert states(tmp_path / "half") != states(tmp_path / "whole")
    api.resume(tmp_path / "half", total_steps=3000, ui="none")
    assert states(tmp_path / "half") == states(tmp_path / "whole")


def test_a_run_with_lessons_resumes_to_the_last_bit(tmp_path: Path) -> None:
    settings = {**SINES, "checkpoint_every": 1, "keep_checkpoints": 99, "eval_every": 0}
    train(tmp_path / "whole", settings)
    steps = list_checkpoints(RunDirectory.open(tmp_path / "whole"))
    train(tmp_path / "half", settings, total_steps=steps[1])
    api.resume(tmp_path / "half", total_steps=8000, ui="none")
    assert states(tmp_path / "half") == states(tmp_path / "whole")


def test_the_policy_of_a_run_is_the_champion_and_plays_as_it_did() -> None:
    training = make(MAZE)
    for _ in range(4):
        training.update()
    agent = training.agent
    assert isinstance(agent, Evolino)
    assert agent.champion is not None
    torch.testing.assert_close(agent.genotype.whole.read(training.policy).float(), agent.champion.float())
    training.close()


def verdict(genomes: torch.Tensor, returns: list[list[float]]) -> FitnessResult:
    values = np.array(returns)
    unknown = np.full(values.shape, np.nan)
    conditions = torch.full((len(genomes),), torch.nan)
    lengths = np.ones(values.shape, dtype=np.int64)
    failed = np.zeros(len(genomes), dtype=bool)
    return FitnessResult(genomes, values, lengths, unknown, np.zeros_like(lengths), conditions, failed)


def test_a_lucky_generation_does_not_make_a_champion() -> None:
    training = make(MAZE)
    agent = training.agent
    assert isinstance(agent, Evolino)
    genomes = agent.genotype.complete(torch.randn(8, agent.genotype.evolved.num_genes, dtype=torch.float64), None)
    first = verdict(genomes, [[float(i)] * 2 for i in range(8)])
    candidates = agent.candidates(first)
    assert candidates is not None
    assert torch.equal(candidates[0], genomes[7])
    agent.decide(verdict(candidates, [[3.0, 5.0], [0.0, 0.0]]))  # Worth 4 on fresh seeds.
    assert agent.champion is not None
    assert torch.equal(agent.champion, genomes[7])
    assert agent.champion_return == 4.0

    lucky = verdict(genomes, [[9.0] * 2] + [[0.0] * 2] * 7)
    candidates = agent.candidates(lucky)
    assert candidates is not None
    assert torch.equal(candidates[-1], genomes[7])
    agent.decide(verdict(candidates, [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]))
    assert torch.equal(agent.champion, genomes[7])
    assert agent.champion_return == 3.0  # The mean of all four episodes that it played on fresh seeds.

    assert agent.candidates(verdict(genomes, [[3.0] * 2] * 8)) is None  # Nobody looks better than that.
    candidates = agent.candidates(lucky)
    assert candidates is not None
    agent.decide(verdict(candidates, [[4.0, 4.0], [0.0, 0.0], [4.0, 4.0]]))
    assert torch.equal(agent.champion, genomes[7])  # Of equals the one that is it already.
    agent.decide(verdict(candidates, [[5.0, 5.0], [0.0, 0.0], [4.0, 4.0]]))
    assert torch.equal(agent.champion, genomes[0])
    assert agent.champion_return == 5.0
    training.close()


def test_what_is_not_finite_fails_and_is_counted() -> None:
    training = make(MAZE)
    agent = training.agent
    assert isinstance(agent, Evolino)
    training._begin(from_weights=False)
    genomes = agent.ask()
    genomes[3, 0] = torch.nan
    outcome = training._judge.judge(genomes, None, [1, 2], 1)
    assert outcome.failed.tolist() == [False] * 3 + [True] + [False] * 4
    assert float(outcome.fitness[3]) == -torch.inf
    metrics = agent.tell(outcome)
    assert metrics["evolino/failed"] == 1.0
    assert np.isfinite(metrics["evolino/mean"])
    training.close()


def test_generations_play_under_seeds_that_all_genomes_share_and_no_other_generation_has() -> None:
    training = make({**MAZE, "env_kwargs": {"corridor_length": 3, "noise": True}})
    training._begin(from_weights=False)
    one = training.agent.genotype.complete(torch.ones(1, training.agent.genotype.evolved.num_genes).double(), None)
    outcome = training._judge.play(one.repeat(4, 1), None, [5, 6], 1)
    assert (outcome.returns == outcome.returns[:1]).all()
    training.close()


def test_biases_that_do_not_evolve_are_zero_and_the_input_gain_scales_what_reads_inputs() -> None:
    training = make(MAZE, biases=False, input_gain=0.25)
    genotype = training.agent.genotype
    genomes = torch.ones(2, genotype.evolved.num_genes, dtype=torch.float64)
    parts = genotype.whole.split(genotype.complete(genomes, None))
    assert float(parts["actor.cell.bias_ih"].abs().max()) == 0.0
    assert float(parts["policy_head.0.bias"].abs().max()) == 0.0
    assert set(parts["actor.cell.weight_ih"].flatten().tolist()) == {0.25}
    assert set(parts["actor.cell.weight_hh"].flatten().tolist()) == {1.0}
    genotype.evolved.write(training.policy, genomes[0])
    torch.testing.assert_close(genotype.evolved.read(training.policy), genomes[0])
    training.close()


def test_readout_cma_leaves_the_memory_as_it_begins() -> None:
    training = make(MAZE, readout="cma")
    before = training.policy.actor.cell.get_parameter("weight_hh").clone()
    for _ in range(3):
        training.update()
    assert torch.equal(training.policy.actor.cell.get_parameter("weight_hh"), before)
    training.close()


def test_lessons_hold_the_teachers_answers_and_force_them(tmp_path: Path) -> None:
    training = make(SINES)
    envs = training._judge.envs(3)
    lessons = play_teacher_sequences(training.policy, envs, [1, 2, 3], washout=60)
    inputs = lessons.inputs.observations[..., 0]
    assert lessons.weights.sum() == 3 * 40
    assert not lessons.weights[:60].any()
    # What is seen at a step is what should have been answered at the one before, in the free run too.
    torch.testing.assert_close(inputs[1:], lessons.targets[:-1, :, 0])
    training.close()


def test_by_default_a_quarter_of_a_lesson_washes_in_where_answers_are_fed_back() -> None:
    training = make(SINES)
    lessons = play_teacher_sequences(training.policy, training._judge.envs(3), [1, 2, 3], washout=None)
    assert not lessons.weights[:25].any()
    assert lessons.weights[25:].all()
    alone = make({**SINES, "env_kwargs": {"washout": 60, "free_run": 40}})
    assert play_teacher_sequences(alone.policy, alone._judge.envs(1), [1], washout=None).weights.all()
    training.close()
    alone.close()


def test_feedback_without_a_washout_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="washout is 0, but answers are fed back"):
        make(SINES, washout=0).close()


def test_actions_beyond_their_bounds_are_counted() -> None:
    sines = {name: value for name, value in SINES.items() if name not in ("teacher_sequences", "washout")}
    training = make(sines, readout="joint", sigma=100.0)
    wild, _ = training.update()
    training.close()
    training = make(sines, readout="joint", sigma=1e-6)
    tame, _ = training.update()
    training.close()
    assert wild["evolino/clipped"] > 0.5
    assert tame["evolino/clipped"] == 0.0
    training = make(MAZE)
    assert "evolino/clipped" not in training.update()[0]
    training.close()


def test_the_fit_is_that_of_each_genome_alone() -> None:
    training = make(SINES)
    lessons = play_teacher_sequences(training.policy, training._judge.envs(3), [1, 2, 3], washout=60)
    genomes = 0.1 * torch.randn(4, training.agent.genotype.evolved.num_genes, dtype=torch.float64)
    together = training._judge.features(genomes, lessons)[0]
    for index in range(4):
        alone = training._judge.features(genomes[index : index + 1], lessons)[0]
        torch.testing.assert_close(together[index], alone[0], rtol=1e-12, atol=1e-14)
    cell = training.policy.actor.cell
    training.agent.genotype.evolved.write(training.policy, genomes[2])
    with torch.no_grad():
        features, _ = cell.sequence(lessons.inputs.observations, cell.init_state(3), lessons.is_first)
    torch.testing.assert_close(together[2], features[lessons.weights > 0], rtol=1e-9, atol=1e-12)
    training.close()


def test_the_fitness_of_an_exam_is_the_mean_squared_error_of_the_readout_in_it() -> None:
    training = make(STRINGS)
    judge, agent = training._judge, training.agent
    assert isinstance(agent, Evolino)
    assert agent.solve is not None
    lessons, exam = (
        play_teacher_sequences(training.policy, judge.envs(4), seeds, washout=1) for seeds in (range(4), range(4, 8))
    )
    genomes = agent.ask()
    readouts = agent.solve(*judge.features(genomes, lessons))
    features, targets, _ = judge.features(genomes, exam)
    errors = (readouts(features) - targets).square().mean((1, 2))
    found = judge.judge(genomes, lessons, [], 1, exam)
    torch.testing.assert_close(found.fitness, -errors, rtol=1e-9, atol=1e-12)
    assert found.lengths[0].tolist() == (exam.weights > 0).sum(0).tolist()
    assert np.isnan(found.successes).all()
    # Who is to be compared with the champion has the same errors, though nothing is solved again.
    again = judge.examine(found.genomes, None, exam)
    np.testing.assert_array_equal(again.returns, found.returns)
    training.close()


def test_a_run_by_errors_makes_champions_of_small_ones_and_tells_of_no_returns() -> None:
    training = make(STRINGS, total_steps=100_000)
    metrics, _ = training.update()
    agent = training.agent
    assert isinstance(agent, Evolino)
    first = agent.champion_return
    assert first < 0.0
    for _ in range(30):
        metrics, _ = training.update()
    assert first < agent.champion_return == metrics["evolino/champion"] < 0.0
    assert "rollout/ep_rew_mean" not in metrics
    assert training.recent_metrics() == {}
    training.close()


def test_an_exam_that_asks_nothing_is_refused() -> None:
    training = make(STRINGS)
    exam = play_teacher_sequences(training.policy, training._judge.envs(4), range(4), washout=99)
    whole = torch.zeros(2, training.agent.genotype.whole.num_genes)
    with pytest.raises(EnvironmentFailure, match="The exam asks nothing"):
        training._judge.examine(whole, None, exam)
    training.close()


def test_demonstrations_teach(tmp_path: Path) -> None:
    teacher = {**MAZE, "env_kwargs": {"corridor_length": 1}, "population": 32, "total_steps": 120_000, "num_envs": 4}
    train(tmp_path / "teacher", teacher, seed=1)
    taught = rlstm.record(tmp_path / "teacher", episodes=16, output=tmp_path / "file.safetensors", checkpoint="best")
    assert taught.mean_return > 2.5
    pupil = {
        **MAZE,
        "env_kwargs": {"corridor_length": 1},
        "demonstrations": str(tmp_path / "file.safetensors"),
        "total_steps": 20_000,
        "population": 16,
    }
    result = train(tmp_path / "pupil", pupil, readout="ridge", hidden_size=8)
    assert result.mean_return is not None
    assert result.mean_return > 1.0


def test_demonstrations_as_lessons_are_shifted_by_one_step(tmp_path: Path) -> None:
    train(tmp_path / "run", MAZE, inputs={"previous_action": True})
    taught = rlstm.record(tmp_path / "run", episodes=3, output=tmp_path / "file.safetensors")
    training = make(MAZE, inputs={"previous_action": True})
    lessons = teacher_sequences_from_demonstrations(training.policy, taught, washout=0)
    assert lessons.inputs.previous_actions is not None
    actions = torch.as_tensor(taught.actions)
    assert torch.equal(lessons.inputs.previous_actions[1:], actions[:-1].long())
    assert torch.equal(lessons.targets.argmax(-1), actions.long())
    assert torch.equal(lessons.weights > 0, torch.as_tensor(taught.valid))
    assert lessons.is_first[0].all()
    assert not lessons.is_first[1:].any()
    training.close()


def test_ppo_goes_on_from_a_champion(tmp_path: Path) -> None:
    train(tmp_path / "champion", MAZE)
    network = {"hidden_size": 3, "encoder_sizes": (), "normalize_observations": False, "scale_rewards": False}
    shared = {name: MAZE[name] for name in ("env", "env_kwargs")}
    result = api.train(
        "ppo", ui="none", run_dir=str(tmp_path / "ppo"), init_from=str(tmp_path / "champion"), total_steps=64,
        num_envs=2, num_steps=16, num_minibatches=1, **network, **shared,
    )  # fmt: skip
    assert result.steps == 64
    train(tmp_path / "again", MAZE, init_from=str(tmp_path / "ppo"), **dict(network.items()))


def test_shards_depend_on_the_population_alone() -> None:
    assert shard_sizes(1000, 1, "native") == [334, 333, 333]
    assert shard_sizes(10, 2, "native") == [10]
    assert sum(shard_sizes(10_000, 8, "native")) == 10_000
    assert len(shard_sizes(10_000, 8, "native")) == 16
    assert shard_sizes(40, 2, "sync") == [8] * 5


@pytest.mark.parametrize(
    "settings",
    [
        {**MAZE, "vectorization": "sync", "population": 16, "total_steps": 1500},
        {**STRINGS, "population": 60, "num_envs": 10, "total_steps": 9000},
    ],
)
def test_workers_change_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    train(tmp_path / "one", settings, workers=1)
    train(tmp_path / "three", settings, workers=3)
    assert states(tmp_path / "one") == states(tmp_path / "three")


def test_a_worker_that_dies_is_named_and_its_shard_judged_again() -> None:
    training = make(MAZE, vectorization="sync", population=16, workers=2)
    alone = make(MAZE, vectorization="sync", population=16)
    training.update()
    alone.update()
    assert training._workers is not None
    victim = training._workers._workers[1].process
    os.kill(victim.pid or 0, signal.SIGKILL)
    victim.join()
    with pytest.warns(UserWarning, match="rlstm worker 1 died with exit code -9"):
        training.update()
    alone.update()
    assert repr(training.agent.state_dict()) == repr(alone.agent.state_dict())
    training.close()
    alone.close()


class Breaks(gym.Env[Any, Any]):
    """An env that breaks at its third step."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("broken on purpose")
        return np.zeros(1, dtype=np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"readout": "lstsq"}, r"info\['target'\].*--readout joint"),
        ({"readout": "ridge"}, "--demonstrations"),
        ({"strategy": "esp", "population": 7}, "too small"),
        ({"strategy": "esp", "population": 41, "combinations": 2}, "multiple"),
        ({"strategy": "cma-es", "hidden_size": 64}, "GiB.*sep-cma-es"),
        ({"sigma": 0.0}, "sigma"),
        ({"critic_memory": "separate"}, "no critic"),
        ({"episodes": 0}, "episodes"),
        ({"readout": "joint", "demonstrations": "x"}, "no demonstrations can teach"),
        ({"fitness": "error"}, "there is no teacher"),
        ({"fitness": "error", "readout": "joint"}, "a readout solved from it"),
        ({"fitness": "error", "episodes": 2}, "plays no episodes: use --num-envs"),
        ({**SINES, "fitness": "error"}, "nothing of a free run"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(MAZE, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mutation_scale": 0.2},
            "mutation_scale is 0.2, which has no effect: strategy is 'snes', .* esp, cosyne alone",
        ),
        ({"strategy": "cosyne", "least_sigma": 0.1}, "least_sigma .* 'cosyne', .* snes, sep-cma-es, cma-es alone"),
        ({"ridge_strength": 0.1}, "ridge_strength .* readout is 'joint', and it is read with ridge, rwr alone"),
    ],
)
def test_a_setting_that_is_not_read_is_a_warning(settings: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        rlstm.train("evolino", **{**MAZE, "total_steps": 100, **settings})


def test_settings_that_are_read_are_no_warning() -> None:
    """Warnings are errors here."""
    rlstm.train("evolino", **{**MAZE, "total_steps": 100, "strategy": "esp", "population": 40, "mutation_scale": 0.2})
    rlstm.train("evolino", **{**MAZE, "total_steps": 100, "readout": "cma", "least_sigma": 0.01})
    rlstm.train("evolino", **{**SINES, "total_steps": 100, "readout": "ridge", "ridge_strength": 0.1})


def test_a_solved_readout_refuses_a_head_of_its_own_and_lessons_that_ask_nothing() -> None:
    with pytest.raises(ConfigError, match="head_sizes"):
        make(SINES, head_sizes=(4,))
    training = make(SINES, washout=100)
    with pytest.raises(EnvironmentFailure, match="ask nothing"):
        training.update()
    training.close()


def test_equal_fitness_for_long_is_a_warning() -> None:
    training = make(MAZE)
    agent = training.agent
    assert isinstance(agent, Evolino)
    genomes = agent.genotype.complete(agent.ask(), None)
    same = verdict(genomes, [[1.0]] * 8)
    agent.tell(same)
    for _ in range(18):
        agent.ask()
        agent.tell(same)
    agent.ask()
    with pytest.warns(UserWarning, match="all 8 genomes were worth the same, 1"):
        agent.tell(same)
    training.close()


def test_equal_fitness_is_none_where_all_are_as_good_as_the_champion() -> None:
    training = make(MAZE)
    agent = training.agent
    assert isinstance(agent, Evolino)
    genomes = agent.genotype.complete(agent.ask(), None)
    agent.tell(verdict(genomes, [[0.0]] + [[1.0]] * 7))
    agent.champion_return = 1.0
    for _ in range(40):  # pytest makes errors of warnings.
        agent.ask()
        agent.tell(verdict(genomes, [[1.0]] * 8))
    training.close()


def test_the_config_has_defaults_for_small_networks() -> None:
    config = api.make_config("evolino", env="rlstm/TMaze-v0")
    assert config.policy.hidden_size == EvolinoConfig.defaults["hidden_size"] == 16
    assert api.make_config("ppo", env="rlstm/TMaze-v0").policy.hidden_size == 128


class Teaches(gym.Env[Any, Any]):
    """An env whose steps say what should have been answered, in whatever form."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, target: Any, num_actions: int = 0) -> None:
        self.target = target
        self.action_space = spaces.Discrete(num_actions) if num_actions else spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.ones(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.ones(1, dtype=np.float32), 0.0, self.steps == 4, False, {"target": copy.copy(self.target)}


gym.register("tests/Teaches-v0", entry_point=Teaches)
TAUGHT = {"env": "tests/Teaches-v0", "num_envs": 2, "hidden_size": 3, "population": 4, "vectorization": "sync"}


@pytest.mark.parametrize("target", [[0.3, -0.2], np.array([0.3, -0.2]), (0.3, -0.2)])
def test_a_teacher_may_speak_in_lists(target: Any) -> None:
    training = make(TAUGHT, env_kwargs={"target": target})
    lessons = play_teacher_sequences(training.policy, training._judge.envs(2), [1, 2], washout=None)
    assert lessons.weights.all()
    torch.testing.assert_close(lessons.targets[0, 0], torch.tensor([0.3, -0.2], dtype=torch.float64))
    assert "readout ridge" in str(training.agent)
    training.close()


@pytest.mark.parametrize(
    ("target", "num_actions", "message"),
    [
        (
            "left",
            4,
            r"no step of the env asks anything by info\['target'\] \(NaN, classes below 0 and what is no number",
        ),
        (99, 4, r"info\['target'\] is 99, which is no action: they are 0 to 3"),
        (np.array([np.inf, 0.0]), 0, r"info\['target'\] is .*inf.*it must be finite"),
    ],
)
def test_what_no_teacher_can_say_is_refused(target: Any, num_actions: int, message: str) -> None:
    with pytest.raises((EnvironmentFailure, UnsupportedSpaceError, ValueError), match=message):
        make(TAUGHT, env_kwargs={"target": target, "num_actions": num_actions}, readout="ridge")
