"""Evolino: one generation, the champion, the readouts, the teacher, workers, resuming, and what is refused."""

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
from rlstm.agents.configs.evolino import EvolinoConfig
from rlstm.agents.evolino import Evolino
from rlstm.api import experiments as api
from rlstm.api.finished_runs import evaluate_run
from rlstm.core.errors import EnvironmentFailure, UnsupportedSpaceError
from rlstm.core.plain_data import decode, encode
from rlstm.core.trees import tree_leaves
from rlstm.evaluation.teacher_sequences import play_teacher_sequences, teacher_sequences_from_demonstrations
from rlstm.evolution.fitness import FitnessEvaluator, FitnessResult, shard_sizes
from rlstm.evolution.readouts import Readout
from rlstm.evolution.strategies import STRATEGIES
from rlstm.evolution.strategies.restarts import Restarts
from rlstm.training.config import ConfigError
from rlstm.training.generations import Evolution
from rlstm.training.result import TrainResult

MAZE: dict[str, Any] = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3},
    "num_envs": 2,
    "hidden_size": 3,
    "population": 8,
    "sigma": 0.5,
    "confirm_episodes": 4,
    "total_steps": 1500,
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
}
NOISY_MAZE = {**MAZE, "env_kwargs": {"corridor_length": 3, "noise": True}}


def make(settings: dict[str, Any], **more: Any) -> Evolution:
    training, _ = api._make_training(api.make_config("evolino", **{**settings, **more}))
    assert isinstance(training, Evolution)
    return training


@pytest.fixture
def start(request: pytest.FixtureRequest):
    """Make runs that are closed when the test ends; returns each and its agent."""

    def begin(settings: dict[str, Any], **more: Any) -> tuple[Evolution, Evolino]:
        training = make(settings, **more)
        request.addfinalizer(training.close)
        assert isinstance(training.agent, Evolino)
        return training, training.agent

    return begin


def train(path: Path, settings: dict[str, Any], **more: Any) -> TrainResult:
    return api.train("evolino", ui="none", run_dir=str(path), **{**settings, **more})


def state_of(training: Evolution) -> str:
    tree = [training.step, training.agent.state_dict(), dict(sorted(training.policy.state_dict().items()))]
    return repr([leaf.tolist() if hasattr(leaf, "tolist") else leaf for leaf in tree_leaves(tree)])


# One generation.


def test_every_generation_plays_under_seeds_of_its_own_that_all_genomes_share(start: Any, monkeypatch: Any) -> None:
    training, _ = start(NOISY_MAZE)
    evaluated: list[list[int]] = []
    confirmed: list[list[int]] = []
    evaluate, play = FitnessEvaluator.evaluate, FitnessEvaluator.play

    def evaluating(self: FitnessEvaluator, genomes: Any, sequences: Any, seeds: Any, *rest: Any) -> FitnessResult:
        evaluated.append(list(seeds))
        result = evaluate(self, genomes, sequences, seeds, *rest)
        return result._replace(
            returns=result.returns + 100.0 * len(evaluated)
        )  # So that each has candidates for champion.

    def playing(self: FitnessEvaluator, whole: Any, readouts: Any, seeds: Any, episodes: int) -> FitnessResult:
        confirmed.append(list(seeds))
        return play(self, whole, readouts, seeds, episodes)

    monkeypatch.setattr(FitnessEvaluator, "evaluate", evaluating)
    monkeypatch.setattr(FitnessEvaluator, "play", playing)
    for _ in range(3):
        training.update()
    confirmed = [seeds for seeds in confirmed if seeds not in evaluated]
    assert [len(seeds) for seeds in evaluated] == [2] * 3
    assert [len(seeds) for seeds in confirmed] == [4] * 3
    every = [seed for seeds in evaluated + confirmed for seed in seeds]
    assert len(set(every)) == len(every)


def test_steps_are_those_of_the_generation_and_of_the_confirmation(start: Any, monkeypatch: Any) -> None:
    training, _ = start(MAZE)
    played: list[FitnessResult] = []
    play = FitnessEvaluator.play
    monkeypatch.setattr(FitnessEvaluator, "play", lambda self, *rest: played.append(play(self, *rest)) or played[-1])
    training.update()
    assert len(played) == 2  # The first generation has a champion to confirm.
    assert training.step == sum(int(result.lengths.sum()) for result in played)


@pytest.mark.parametrize(("settings", "num_held_out"), [(SINES, 0), (STRINGS, 5)])
def test_every_generation_has_teacher_sequences_of_its_own(
    start: Any, monkeypatch: Any, settings: dict[str, Any], num_held_out: int
) -> None:
    _, agent = start(settings)
    seen: list[tuple[int, ...]] = []

    def playing(policy: Any, envs: Any, seeds: Any, **rest: Any) -> Any:
        seen.append(tuple(seeds))
        return play_teacher_sequences(policy, envs, seeds, **rest)

    monkeypatch.setattr("rlstm.agents.evolino.play_teacher_sequences", playing)
    for generation in range(3):
        agent._teacher_sequences(agent.strategy.sample(), generation)
        agent._confirm(torch.zeros(1, agent.parameters.whole.num_genes), generation)
    of_generations = [seeds for seeds in seen if len(seeds) == agent.config.teacher_sequences + num_held_out]
    assert len(of_generations) == 3
    every = [seed for seeds in seen for seed in seeds]
    assert len(set(every)) == len(every)


def test_all_genomes_meet_the_same_episodes(start: Any) -> None:
    _, agent = start(NOISY_MAZE)
    one = agent.parameters.complete(torch.ones(1, agent.parameters.evolved.num_genes).double(), None)
    outcome = agent.evaluator.play(one.repeat(4, 1), None, [5, 6], 1)
    assert (outcome.returns == outcome.returns[:1]).all()


def test_the_policy_of_a_run_is_the_champion(start: Any) -> None:
    training, agent = start(MAZE)
    for _ in range(3):
        training.update()
    assert agent.champion is not None
    torch.testing.assert_close(agent.parameters.whole.read(training.policy).float(), agent.champion.float())


def result_of(genomes: torch.Tensor, returns: list[list[float]]) -> FitnessResult:
    values = np.array(returns)
    unknown = np.full(values.shape, np.nan)
    conditions = torch.full((len(genomes),), torch.nan)
    lengths = np.ones(values.shape, dtype=np.int64)
    failed = np.zeros(len(genomes), dtype=bool)
    return FitnessResult(genomes, values, lengths, unknown, np.zeros_like(lengths), conditions, failed)


def test_a_lucky_generation_does_not_make_a_champion(start: Any) -> None:
    _, agent = start(MAZE)
    genomes = agent.parameters.complete(agent.strategy.ask(), None)
    candidates = agent.candidates(result_of(genomes, [[float(i)] * 2 for i in range(8)]))
    assert candidates is not None
    assert torch.equal(candidates[0], genomes[7])
    agent.choose_champion(result_of(candidates, [[3.0, 5.0], [0.0, 0.0]]))  # Worth 4 on fresh seeds.
    assert agent.champion is not None
    assert torch.equal(agent.champion, genomes[7])
    assert agent.champion_return == 4.0

    lucky = result_of(genomes, [[9.0] * 2] + [[0.0] * 2] * 7)
    candidates = agent.candidates(lucky)
    assert candidates is not None
    assert torch.equal(candidates[-1], genomes[7])
    agent.choose_champion(result_of(candidates, [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]))
    assert torch.equal(agent.champion, genomes[7])
    assert agent.champion_return == 3.0  # The mean of all four episodes that it played on fresh seeds.

    assert agent.candidates(result_of(genomes, [[3.0] * 2] * 8)) is None  # None looks better than that.
    candidates = agent.candidates(lucky)
    assert candidates is not None
    agent.choose_champion(result_of(candidates, [[4.0, 4.0], [0.0, 0.0], [4.0, 4.0]]))
    assert torch.equal(agent.champion, genomes[7])  # Of equals the present one.
    agent.choose_champion(result_of(candidates, [[5.0, 5.0], [0.0, 0.0], [4.0, 4.0]]))
    assert torch.equal(agent.champion, genomes[0])
    assert agent.champion_return == 5.0


def test_what_is_not_finite_fails_and_is_counted(start: Any) -> None:
    _, agent = start(MAZE)
    genomes = agent.strategy.ask()
    genomes[3, 0] = torch.nan
    outcome = agent.evaluator.evaluate(genomes, None, [1, 2], 1)
    assert outcome.failed.tolist() == [False] * 3 + [True] + [False] * 4
    assert float(outcome.fitness[3]) == -torch.inf
    metrics = agent._metrics(outcome, 1, 1)
    assert metrics["evolino/failed"] == 1.0
    assert np.isfinite(metrics["evolino/mean"])


def test_a_readout_that_is_not_finite_fails_alone(start: Any) -> None:
    _, agent = start(STRINGS)
    genomes = agent.strategy.ask()[:2]
    features, outputs = agent.policy.policy_head[-1].in_features, agent.policy.policy_head[-1].out_features
    weight = torch.zeros(2, features, outputs, dtype=torch.float64)
    weight[1] = torch.nan
    readouts = Readout(weight, torch.zeros(2, 1, outputs, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    outcome = agent.evaluator.play(agent.parameters.complete(genomes, readouts), readouts, [1, 2], 1)
    assert outcome.failed.tolist() == [False, True]
    assert outcome.fitness.isfinite().tolist() == [True, False]


def test_biases_that_do_not_evolve_are_zero_and_the_input_gain_scales(start: Any) -> None:
    training, agent = start(MAZE, biases=False, input_gain=0.25)
    parameters = agent.parameters
    genomes = torch.ones(2, parameters.evolved.num_genes, dtype=torch.float64)
    parts = parameters.whole.split(parameters.complete(genomes, None))
    assert float(parts["actor.cell.bias_ih"].abs().max()) == 0.0
    assert float(parts["policy_head.0.bias"].abs().max()) == 0.0
    assert set(parts["actor.cell.weight_ih"].flatten().tolist()) == {0.25}
    assert set(parts["actor.cell.weight_hh"].flatten().tolist()) == {1.0}
    parameters.evolved.write(training.policy, genomes[0])
    torch.testing.assert_close(parameters.evolved.read(training.policy), genomes[0])


def test_readout_cma_leaves_the_memory_as_it_begins(start: Any) -> None:
    training, agent = start(MAZE, readout="cma")
    before = training.policy.actor.cell.get_parameter("weight_hh").clone()
    for _ in range(2):
        training.update()
    assert agent.champion is not None
    assert torch.equal(training.policy.actor.cell.get_parameter("weight_hh"), before)


def test_actions_beyond_their_bounds_are_counted(start: Any) -> None:
    sines = {name: value for name, value in SINES.items() if name not in ("teacher_sequences", "washout")}
    shares = [start(sines, readout="joint", sigma=sigma)[0].update()[0]["evolino/clipped"] for sigma in (100.0, 1e-6)]
    assert shares[0] > 0.5
    assert shares[1] == 0.0
    assert "evolino/clipped" not in start(MAZE)[0].update()[0]


def test_equal_fitness_for_long_is_a_warning(start: Any) -> None:
    _, agent = start(MAZE)
    for _ in range(19):
        agent._warn_of_equal_fitness(torch.ones(8))
    with pytest.warns(UserWarning, match="all 8 genomes were worth the same, 1"):
        agent._warn_of_equal_fitness(torch.ones(8))


def test_equal_fitness_is_none_where_all_are_as_good_as_the_champion(start: Any) -> None:
    _, agent = start(MAZE)
    agent._warn_of_equal_fitness(torch.tensor([0.0] + [1.0] * 7))
    agent.champion_return = 1.0
    for _ in range(40):  # Warnings are errors here.
        agent._warn_of_equal_fitness(torch.ones(8))


def test_the_config_has_defaults_for_small_networks() -> None:
    config = api.make_config("evolino", env="rlstm/TMaze-v0")
    assert config.policy.hidden_size == EvolinoConfig.defaults["hidden_size"] == 16
    assert api.make_config("ppo", env="rlstm/TMaze-v0").policy.hidden_size == 128


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("patience", [None, 3])
def test_a_strategy_is_made_from_the_settings_that_it_takes(start: Any, name: Any, patience: int | None) -> None:
    arguments = {
        "snes": {"least_sigma": 0.125},
        "sep-cma-es": {"least_sigma": 0.125},
        "cma-es": {"least_sigma": 0.125},
        "cosyne": {"mutation_scale": 0.5},
        "esp": {"mutation_scale": 0.5, "combinations": 2, "burst_after": 7, "credit": "max"},
        "open-es": {"learning_rate": 0.75},
    }[name]
    settings = {"es_learning_rate" if key == "learning_rate" else key: value for key, value in arguments.items()}
    _, agent = start(MAZE, strategy=name, patience=patience, **{**settings, "population": 16, "sigma": 0.25})
    assert isinstance(agent.strategy, Restarts) == (patience is not None)
    made = agent.strategy.present_try if isinstance(agent.strategy, Restarts) else agent.strategy
    assert type(made) is STRATEGIES[name]
    assert {key: getattr(made, key) for key in arguments} == arguments
    assert made.population == 16


@pytest.mark.parametrize(
    ("settings", "deviation"),
    [(MAZE, 3.0), ({**MAZE, "readout": "cma"}, 0.1), (SINES, 0.1), ({**MAZE, "sigma": 0.5}, 0.5)],
    ids=["joint", "readout alone", "teacher", "set"],
)
def test_the_first_genes_are_drawn_wide_where_the_readout_evolves_with_the_memory(
    start: Any, settings: dict[str, Any], deviation: float
) -> None:
    unset = {} if deviation == 0.5 else {"sigma": None}
    _, agent = start(settings, population=400, **unset)
    assert float(agent.strategy.ask().std()) == pytest.approx(deviation, rel=0.05)


def test_the_first_genes_are_drawn_narrow_around_weights_that_are_loaded(start: Any) -> None:
    _, agent = start(MAZE, population=400, sigma=None)
    agent.begin_around_weights()
    genes = agent.strategy.ask()
    assert float((genes - genes.mean(0)).std()) == pytest.approx(0.1, rel=0.05)


# Resuming, and other runs.


@pytest.mark.parametrize(
    "settings",
    [{**MAZE, "strategy": name, "patience": 3} for name in STRATEGIES] + [SINES],
    ids=lambda settings: settings.get("strategy", "solved"),
)
def test_a_run_resumes_to_the_last_bit(start: Any, settings: dict[str, Any]) -> None:
    straight, _ = start(settings)
    resumed, _ = start(settings)
    for _ in range(2):
        straight.update()
    resumed.policy.load_state_dict(straight.policy.state_dict())
    resumed.load_training_state(decode(encode(straight.training_state(), "")))
    resumed.step, resumed.num_updates = straight.step, straight.num_updates
    before = state_of(straight)
    for _ in range(3):
        straight.update()
        resumed.update()
    assert state_of(straight) == state_of(resumed) != before


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the maze whose policy sees its previous action."""
    path = tmp_path_factory.mktemp("evolino") / "champion"
    train(path, MAZE, inputs={"previous_action": True})
    return path


@pytest.mark.slow
def test_ppo_goes_on_from_a_champion_and_evolution_from_ppo(champion: Path, tmp_path: Path, start: Any) -> None:
    network = {"hidden_size": 3, "encoder_sizes": (), "normalize_observations": False, "scale_rewards": False}
    shared = {"env": MAZE["env"], "env_kwargs": MAZE["env_kwargs"], "inputs": {"previous_action": True}}
    result = api.train(
        "ppo", ui="none", run_dir=str(tmp_path / "ppo"), init_from=str(champion), total_steps=64, num_envs=2,
        num_steps=16, num_minibatches=1, **network, **shared,
    )  # fmt: skip
    assert result.steps == 64
    train(tmp_path / "again", MAZE, init_from=str(tmp_path / "ppo"), total_steps=10, **network, **shared)


def test_the_first_generation_lies_around_weights_that_are_loaded(start: Any) -> None:
    training, agent = start(MAZE, strategy="esp", population=400, sigma=0.01)
    assert float(agent.strategy.ask().mean(0).abs().max()) < 0.005
    agent.begin_around_weights()
    weights = agent.parameters.evolved.read(training.policy)
    torch.testing.assert_close(agent.strategy.ask().mean(0), weights, rtol=0, atol=0.005)


# The teacher.


@pytest.fixture(scope="module")
def sines_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evolino") / "sines"
    train(path, SINES)
    return path


def test_two_sines_are_continued_from_a_readout_in_closed_form(sines_run: Path) -> None:
    result = evaluate_run(sines_run, episodes=8, checkpoint="latest")
    nrmse = np.sqrt(-result.returns / 40 / 0.25)
    assert np.median(nrmse) < 1e-2
    assert result.success_rate == 1.0


def test_a_loaded_agent_goes_on_alone_without_a_teacher(sines_run: Path) -> None:
    agent = rlstm.load(sines_run)
    env = gym.make("rlstm/Sines-v0", feedback=True, washout=60, free_run=40)
    observation, _ = env.reset(seed=3)
    errors = []
    for step in range(100):
        observation, _, _, _, info = env.step(agent.act(observation))
        if step >= 60:
            errors.append(float(observation[0]) - float(info["target"][0]))
    assert np.sqrt(np.mean(np.square(errors))) < 1e-2


def test_teacher_sequences_hold_the_teachers_answers_and_force_them(start: Any) -> None:
    training, agent = start(SINES, inputs={"previous_action": True})
    sequences = play_teacher_sequences(training.policy, agent.envs(3), [1, 2, 3], washout=60)
    inputs = sequences.inputs
    assert sequences.weights.sum() == 3 * 40
    assert not sequences.weights[:60].any()
    # What is seen at a step is what should have been answered at the one before, in the free run too.
    torch.testing.assert_close(inputs.observations[1:, :, 0], sequences.targets[:-1, :, 0])
    assert inputs.previous_actions is not None
    torch.testing.assert_close(inputs.previous_actions[1:].view(-1, 3), sequences.targets[:-1, :, 0])


def test_previous_actions_are_the_teachers_where_the_env_forces_none(start: Any) -> None:
    training, agent = start(STRINGS, inputs={"previous_action": True})
    sequences = play_teacher_sequences(training.policy, agent.envs(4), range(4), washout=0)
    previous, distribution = sequences.inputs.previous_actions, training.policy.distribution
    assert previous is not None
    asked = sequences.weights[:-1] > 0
    answers = distribution.mode(sequences.targets[:-1][asked], None)
    assert torch.equal(previous[1:][asked], answers)
    assert len(answers.unique(dim=0)) > 1


def test_a_sequence_asks_nothing_after_its_episode(start: Any) -> None:
    training, agent = start(STRINGS)
    sequences = play_teacher_sequences(training.policy, agent.envs(8), range(8), washout=0)
    over = sequences.is_first.int().cumsum(0) > 1  # The env goes on until all episodes have ended.
    assert over.any()
    assert not sequences.weights[over].any()
    assert (sequences.weights[~over] > 0).any()


def test_by_default_a_quarter_is_washout_where_answers_are_fed_back(start: Any) -> None:
    training, agent = start(SINES)
    sequences = play_teacher_sequences(training.policy, agent.envs(3), [1, 2, 3], washout=None)
    assert not sequences.weights[:25].any()
    assert sequences.weights[25:].all()
    alone, its_agent = start({**SINES, "env_kwargs": {"washout": 60, "free_run": 40}})
    assert play_teacher_sequences(alone.policy, its_agent.envs(1), [1], washout=None).weights.all()


def test_feedback_without_a_washout_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="washout is 0, but answers are fed back"):
        make(SINES, washout=0).close()


def test_the_fit_is_that_of_each_genome_alone(start: Any) -> None:
    training, agent = start(SINES)
    sequences = play_teacher_sequences(training.policy, agent.envs(3), [1, 2, 3], washout=60)
    genomes = 0.1 * torch.randn(4, agent.parameters.evolved.num_genes, dtype=torch.float64)
    together = agent.evaluator.features(genomes, sequences)[0]
    for index in range(4):
        alone = agent.evaluator.features(genomes[index : index + 1], sequences)[0]
        torch.testing.assert_close(together[index], alone[0], rtol=1e-12, atol=1e-14)
    cell = training.policy.actor.cell
    agent.parameters.evolved.write(training.policy, genomes[2])
    with torch.no_grad():
        features, _ = cell.sequence(sequences.inputs.observations, cell.init_state(3), sequences.is_first)
    torch.testing.assert_close(together[2], features[sequences.weights > 0], rtol=1e-9, atol=1e-12)


def test_the_fitness_of_errors_is_the_mean_square_in_held_out_sequences(start: Any) -> None:
    training, agent = start(STRINGS)
    evaluator = agent.evaluator
    assert agent.solve is not None
    sequences, held_out = (
        play_teacher_sequences(training.policy, agent.envs(4), seeds, washout=1) for seeds in (range(4), range(4, 8))
    )
    genomes = agent.strategy.ask()
    readouts = agent.solve(*evaluator.features(genomes, sequences))
    features, targets, _ = evaluator.features(genomes, held_out)
    errors = (readouts(features) - targets).square().mean((1, 2))
    found = evaluator.evaluate_shard(genomes, sequences, [], 1, held_out)
    torch.testing.assert_close(found.fitness, -errors, rtol=1e-9, atol=1e-12)
    assert found.lengths[0].tolist() == (held_out.weights > 0).sum(0).tolist()
    assert np.isnan(found.successes).all()
    # Candidates for champion have the same errors, though nothing is solved again.
    again = evaluator.held_out_errors(found.genomes, None, held_out)
    np.testing.assert_array_equal(again.returns, found.returns)


def test_a_run_by_errors_finds_champions_of_smaller_ones_and_has_no_returns(start: Any) -> None:
    training, agent = start(STRINGS)
    metrics, _ = training.update()
    first = agent.champion_return
    assert first < 0.0
    for _ in range(12):
        metrics, _ = training.update()
    assert first < agent.champion_return == metrics["evolino/champion"] < 0.0
    assert "rollout/ep_rew_mean" not in metrics
    assert training.recent_metrics() == {}


def test_sequences_that_ask_nothing_are_refused(start: Any) -> None:
    training, agent = start(STRINGS)
    held_out = play_teacher_sequences(training.policy, agent.envs(4), range(4), washout=99)
    whole = torch.zeros(2, agent.parameters.whole.num_genes)
    with pytest.raises(EnvironmentFailure, match="The held-out sequences ask nothing"):
        agent.evaluator.held_out_errors(whole, None, held_out)
    with pytest.raises(EnvironmentFailure, match="The teacher sequences ask nothing"):
        start(SINES, washout=100)[0].update()


@pytest.mark.slow
def test_demonstrations_teach(tmp_path: Path) -> None:
    easy = {**MAZE, "env_kwargs": {"corridor_length": 1}}
    train(tmp_path / "teacher", easy, seed=1, population=32, total_steps=120_000, num_envs=4)
    taught = rlstm.record(tmp_path / "teacher", episodes=16, output=tmp_path / "file.safetensors", checkpoint="best")
    assert taught.mean_return > 2.5
    pupil = {"demonstrations": str(tmp_path / "file.safetensors"), "total_steps": 20_000, "population": 16}
    result = train(tmp_path / "pupil", easy, **pupil, readout="ridge", hidden_size=8)
    assert result.mean_return is not None
    assert result.mean_return > 1.0


def test_demonstrations_are_teacher_sequences_shifted_by_one_step(champion: Path, tmp_path: Path, start: Any) -> None:
    file = tmp_path / "file.safetensors"
    taught = rlstm.record(champion, episodes=3, output=file)
    inputs = {"previous_action": True, "previous_reward": True}
    training, agent = start(MAZE, inputs=inputs, demonstrations=str(file))
    sequences = teacher_sequences_from_demonstrations(training.policy, taught, washout=0)
    assert sequences.inputs.previous_actions is not None
    actions = torch.as_tensor(taught.actions)
    assert torch.equal(sequences.inputs.previous_actions[1:], actions[:-1].long())
    assert sequences.inputs.previous_rewards is not None
    np.testing.assert_array_equal(sequences.inputs.previous_rewards[1:], taught.rewards[:-1].astype(np.float32))
    assert taught.rewards[:-1].any()
    assert torch.equal(sequences.targets.argmax(-1), actions.long())
    assert torch.equal(sequences.weights > 0, torch.as_tensor(taught.valid))
    assert sequences.is_first[0].all()
    assert not sequences.is_first[1:].any()
    # They are what an agent is taught by, and no step of theirs counts.
    own, held_out, steps = agent._teacher_sequences(agent.strategy.sample(), 0)
    assert (agent.readout, held_out, steps) == ("ridge", None, 0)
    assert torch.equal(own.targets, sequences.targets)


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
def test_targets_may_be_lists(start: Any, target: Any) -> None:
    training, agent = start(TAUGHT, env_kwargs={"target": target})
    sequences = play_teacher_sequences(training.policy, agent.envs(2), [1, 2], washout=None)
    assert sequences.weights.all()
    torch.testing.assert_close(sequences.targets[0, 0], torch.tensor([0.3, -0.2], dtype=torch.float64))
    assert agent.readout == "ridge"


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
def test_targets_that_make_no_sense_are_refused(target: Any, num_actions: int, message: str) -> None:
    with pytest.raises((EnvironmentFailure, UnsupportedSpaceError, ValueError), match=message):
        make(TAUGHT, env_kwargs={"target": target, "num_actions": num_actions}, readout="ridge")


# Workers.


def test_shards_are_joined_in_their_order(start: Any) -> None:
    _, agent = start(MAZE)
    genomes = agent.parameters.complete(agent.strategy.ask(), None)
    whole = agent.evaluator.play(genomes, None, [0, 1], 1)
    parts = [agent.evaluator.play(part, None, [0, 1], 1) for part in genomes.split([3, 5])]
    for expected, found in zip(whole, FitnessResult.join(parts), strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_shards_depend_on_the_population_alone() -> None:
    assert shard_sizes(1000, 1, "native") == [334, 333, 333]
    assert shard_sizes(10, 2, "native") == [10]
    assert sum(shard_sizes(10_000, 8, "native")) == 10_000
    assert len(shard_sizes(10_000, 8, "native")) == 16
    assert shard_sizes(40, 2, "sync") == [8] * 5


def test_workers_change_nothing_and_a_dead_one_is_named_and_replaced(start: Any) -> None:
    settings = {**STRINGS, "vectorization": "sync", "population": 16}
    training, agent = start(settings, workers=2)
    alone, _ = start(settings)
    training.update()
    alone.update()
    assert state_of(training) == state_of(alone)
    assert agent.evaluator._workers is not None
    victim = agent.evaluator._workers._workers[1].process
    os.kill(victim.pid or 0, signal.SIGKILL)
    victim.join()
    with pytest.warns(UserWarning, match=r"rlstm worker 1 died by signal 9 \(SIGKILL"):
        training.update()
    alone.update()
    assert state_of(training) == state_of(alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{**MAZE, "vectorization": "sync", "population": 16}, {**STRINGS, "population": 60, "num_envs": 10}],
)
def test_three_workers_change_nothing(start: Any, settings: dict[str, Any]) -> None:
    training, alone = start(settings, workers=3)[0], start(settings)[0]
    for _ in range(3):
        training.update()
        alone.update()
    assert state_of(training) == state_of(alone)


# What is refused, and warnings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"readout": "lstsq"}, r"info\['target'\].*--readout joint"),
        ({"readout": "ridge"}, "--demonstrations"),
        ({"strategy": "esp", "population": 7}, "too small"),
        ({"strategy": "esp", "population": 41, "combinations": 2}, "multiple"),
        ({"strategy": "cma-es", "hidden_size": 64}, "GiB.*sep-cma-es"),
        ({"sigma": 0.0}, "sigma"),
        ({"critic_memory": "separate"}, "critic_memory is 'separate', .* no critic"),
        ({"critic_memory": "detached"}, "critic_memory is 'detached', .* no critic"),
        ({"popart": True}, "popart is set, .* no critic"),
        ({"episodes": 0}, "episodes"),
        ({"readout": "joint", "demonstrations": "x"}, "no demonstrations can teach"),
        ({"fitness": "error"}, "there is no teacher"),
        ({"fitness": "error", "readout": "joint"}, "a readout solved from it"),
        ({"fitness": "error", "episodes": 2}, "use --num-envs"),
        ({**SINES, "fitness": "error"}, "nothing of a free run"),
        ({**SINES, "head_sizes": (4,)}, "head_sizes"),
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
        make(MAZE, **settings).close()


@pytest.mark.parametrize(
    "settings",
    [
        {**MAZE, "strategy": "esp", "population": 40, "mutation_scale": 0.2},
        {**MAZE, "readout": "cma", "least_sigma": 0.01},
        {**SINES, "readout": "ridge", "ridge_strength": 0.1},
    ],
)
def test_settings_that_are_read_are_no_warning(start: Any, settings: dict[str, Any]) -> None:
    start(settings)  # Warnings are errors here.
