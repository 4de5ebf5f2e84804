"""The script of double pole balancing: what counts as a gene, an evaluation and a solution, and what its table says."""

import numpy as np
import pytest
import torch

from rlstm.envs.control.pole_generalisation import standard_start


@pytest.fixture(scope="module")
def bench(scripts):
    return scripts.double_pole.Bench(scripts.double_pole.SETTINGS["damping"]["cma-es"], "damping")


def make_runs(scripts, bench, seeds, limit, name="cma-es"):
    setting = scripts.double_pole.SETTINGS["damping"][name]
    return [scripts.double_pole.Run(bench.begin(setting, name, seed), seed, limit) for seed in seeds]


def test_biases_are_no_genes(scripts) -> None:
    for size, genes in ((1, 5), (3, 21)):
        setting = scripts.double_pole_settings.Setting({}, hidden_size=size)
        bench = scripts.double_pole.Bench(setting, "damping")
        assert bench.num_genes == genes
        whole = bench._with_biases(torch.ones(2, genes))
        weights = bench.layout.split(whole)
        assert all(bool((weight == (0 if "bias" in name else 1)).all()) for name, weight in weights.items())


@pytest.mark.parametrize("fitness", ["damping", "standard"])
def test_every_setting_begins(scripts, fitness) -> None:
    for name, setting in scripts.double_pole.SETTINGS[fitness].items():
        bench = scripts.double_pole.Bench(setting, fitness)
        genomes = bench.begin(setting, name, 3).ask()
        assert genomes.shape[1] == bench.num_genes
        assert torch.equal(bench.begin(setting, name, 3).ask(), genomes)


def test_runs_side_by_side_are_those_alone(scripts, bench) -> None:
    together = make_runs(scripts, bench, (1000, 1001, 1002), 64)
    alone = make_runs(scripts, bench, (1001,), 64)
    assert len(list(scripts.double_pole.evolve(bench, together))) == 3
    assert list(scripts.double_pole.evolve(bench, alone)) == alone
    assert [run.evaluations for run in together] == [64] * 3
    assert torch.equal(together[1].strategy.ask(), alone[0].strategy.ask())
    assert not torch.equal(together[0].strategy.ask(), together[2].strategy.ask())


def test_the_actor_in_the_tests_is_the_network_that_was_trained(scripts, bench) -> None:
    genomes = torch.randn(6, bench.num_genes, generator=torch.Generator().manual_seed(0)) * 2
    lengths = bench.play(genomes).lengths
    assert len(set(lengths.tolist())) > 1
    starts = np.repeat(standard_start(), 6, axis=0)
    for num_steps in range(lengths.min() - 1, lengths.max() + 1):
        balanced = scripts.double_pole.balanced_starts(scripts.double_pole.Actor(bench, genomes, 1), starts, num_steps)
        assert balanced.tolist() == (lengths > num_steps).tolist()


def test_only_the_best_network_is_a_candidate_and_only_if_it_balanced(scripts, bench) -> None:
    (run,) = make_runs(scripts, bench, (0,), 1000)
    genomes = run.strategy.ask()
    fitness = torch.linspace(1.0, 0.0, len(genomes), dtype=torch.float64)
    stood = torch.ones(len(genomes), dtype=torch.bool)
    stood[0] = False
    run.tell(genomes, fitness, stood)
    assert run.candidate is None
    assert run.plays
    genomes = run.strategy.ask()
    run.tell(genomes, fitness, ~stood)
    assert torch.equal(run.candidate, genomes[0])
    assert not run.plays
    assert run.evaluations == 2 * len(genomes)


def test_a_candidate_that_fails_sends_its_run_back(scripts, bench) -> None:
    (run,) = make_runs(scripts, bench, (0,), 1000)
    run.candidate = torch.zeros(bench.num_genes)
    assert not scripts.double_pole.passes_short_test(bench, run, run.candidate)
    assert (run.candidate, run.num_tests, run.plays, run.over) == (None, 1, True, False)


def test_a_trial_in_parts_is_one_from_start_to_end(scripts, bench) -> None:
    """Networks that enter it at different times fall at the steps at which they fall in training."""
    genomes = torch.randn(7, bench.num_genes, generator=torch.Generator().manual_seed(0)) * 2
    lengths = bench.play(genomes).lengths
    assert len(set(lengths.tolist())) > 3
    trial = scripts.double_pole_trial.LongTrial(bench)
    waiting, fell_at, entered = [], {}, {}
    for now in range(60):
        if now % 2 == 0 and now // 2 < 7:
            trial.add(genomes[now // 2])
            waiting.append(now // 2)
            entered[now // 2] = now
        fallen, stood = trial.advance(1)
        assert not stood.any()
        fell_at.update({one: now + 1 - entered[one] for one, fell in zip(waiting, fallen, strict=True) if fell})
        waiting = [one for one, fell in zip(waiting, fallen, strict=True) if not fell]
        assert len(trial) == len(waiting)
    assert fell_at == dict(enumerate(lengths.tolist()))


def test_a_trial_ends_after_all_its_steps(scripts, bench, monkeypatch) -> None:
    monkeypatch.setattr(scripts.double_pole_trial, "MANY_STEPS", 12)
    trial = scripts.double_pole_trial.LongTrial(bench)
    for steps in (5, 3):
        trial.add(torch.zeros(bench.num_genes))
        fallen, stood = trial.advance(steps)
        assert not (fallen | stood).any()
    for left in (2, 1):
        fallen, stood = trial.advance(100)  # As far as the first one has to go.
        assert not fallen.any()
        assert stood.tolist() == [True, False][:left]
    assert len(trial) == 0


def test_a_run_is_solved_by_the_longest_test_alone_and_goes_on_where_it_fails(scripts, bench, monkeypatch) -> None:
    """Generations and tests by script: how many steps the candidates of each seed stand, one after the other."""
    runs = make_runs(scripts, bench, (0, 1, 2), 40)
    falls_after = {0: [50_000, 200_000], 1: [10_000] * 9, 2: [200_000]}

    class Trial:
        def __init__(self, bench):
            self.falls_after, self.steps = np.zeros(0), np.zeros(0)

        def add(self, candidate):
            self.falls_after = np.append(self.falls_after, falls_after[int(candidate[0])].pop(0))
            self.steps = np.append(self.steps, 0)

        def advance(self, num_steps):
            self.steps = self.steps + num_steps
            fallen = self.steps > self.falls_after
            stood = ~fallen & (self.steps >= 100_000)
            self.falls_after, self.steps = (one[~fallen & ~stood] for one in (self.falls_after, self.steps))
            return fallen, stood

    def play(bench, playing):
        for run in playing:
            run.evaluations += 8
            run.candidate = torch.full((5,), float(run.seed))

    monkeypatch.setattr(scripts.double_pole, "play_generation", play)
    monkeypatch.setattr(scripts.double_pole, "LongTrial", Trial)
    monkeypatch.setattr(scripts.double_pole, "passes_short_test", lambda *_: True)
    ended = {run.seed: (run.solved, run.evaluations) for run in scripts.double_pole.evolve(bench, runs)}
    assert ended == {0: (True, 16), 1: (False, 40), 2: (True, 8)}


def row(evaluations, solved, strategy="cma-es", fitness="damping", network="elman, 1 hidden"):
    names = {"strategy": strategy, "fitness": fitness, "network": network, "settings": "sigma 1.0"}
    return {**names, "evaluations": str(evaluations), "solved": str(solved)}


def test_the_table_is_in_the_order_of_means_and_lists_runs_given_up(scripts) -> None:
    rows = [
        row(100, True),
        row(300, True),
        row(5000, False, "esp"),
        row(4000, True, "esp"),
        row(7, True, "esp", "standard"),
    ]
    lines = scripts.double_pole_table.table(rows, "damping", 2).splitlines()[2:]
    assert lines[0] == "| **cma-es** | elman, 1 hidden | 200 | 200 | 300 | 2 of 2 | here |"
    assert lines[1].startswith("| CMA-ES | elman, 3 hidden | 3,043 | 2,405 | 9,698 | 100 of 100 |")
    (own,) = [line for line in lines if line.startswith("| **esp**")]
    assert own == "| **esp** | elman, 1 hidden | > 4,500 | never | > 5,000 | 1 of 2 | here |"
    assert [line for line in lines if "26,342" in line]
    assert scripts.double_pole_table.table(rows[:2], "standard", 1) == ""


def test_networks_and_settings_have_lines_of_their_own(scripts) -> None:
    rows = [row(100, True), row(300, True, network="elman, 3 hidden")]
    lines = scripts.double_pole_table.table(rows, "damping", 1).splitlines()
    assert sum(line.startswith("| **cma-es**") for line in lines) == 2


def test_a_strategy_has_a_line_once_its_long_runs_are_over_too(scripts) -> None:
    rows = [row(100, True)] * 49
    assert scripts.double_pole_table.table(rows, "damping") == ""
    assert "49" not in scripts.double_pole_table.table([*rows, row(9000, True)], "damping")
