"""The script of double pole balancing: what counts as a gene, an evaluation and a solution, and what its table says."""

import numpy as np
import pytest
import torch


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
    starts = np.repeat(scripts.double_pole.standard_start(), 6, axis=0)
    for num_steps in range(lengths.min() - 1, lengths.max() + 1):
        balanced = scripts.double_pole.balanced_starts(bench.actor(genomes, 1), starts, num_steps)
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
    run, *others = make_runs(scripts, bench, (0, 1, 2), 1000)
    run.candidate = torch.zeros(bench.num_genes)
    scripts.double_pole.put_to_short_tests(bench, [run])
    assert (run.candidate, run.num_tests, run.solved, run.plays) == (None, 1, False, True)
    for other in (run, *others):
        other.candidate = torch.zeros(bench.num_genes)
    scripts.double_pole.put_to_many_steps(bench, [run, *others], 5)
    assert all(other.candidate is not None for other in (run, *others))
    scripts.double_pole.put_to_many_steps(bench, [run, *others], 200)
    assert all(other.plays and not other.over for other in (run, *others))


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
    lines = scripts.double_pole_table.table(rows, "damping").splitlines()[2:]
    assert lines[0] == "| **cma-es** | elman, 1 hidden | 200 | 200 | 300 | 2 of 2 | here |"
    assert lines[1].startswith("| CMA-ES | elman, 3 hidden | 3,043 | 2,405 | 9,698 | 100 of 100 |")
    (own,) = [line for line in lines if line.startswith("| **esp**")]
    assert own == "| **esp** | elman, 1 hidden | > 4,500 | never | > 5,000 | 1 of 2 | here |"
    assert [line for line in lines if "26,342" in line]
    assert scripts.double_pole_table.table(rows[:2], "standard") == ""


def test_networks_and_settings_have_lines_of_their_own(scripts) -> None:
    rows = [row(100, True), row(300, True, network="elman, 3 hidden")]
    lines = scripts.double_pole_table.table(rows, "damping").splitlines()
    assert sum(line.startswith("| **cma-es**") for line in lines) == 2


def test_a_run_is_solved_by_the_longest_test_alone_and_goes_on_where_it_fails(scripts, bench, monkeypatch) -> None:
    """Tests by script: what stands for how long; seed 0's first candidate falls late, its second does not."""
    runs = make_runs(scripts, bench, (0, 1, 2), 40)
    falls_after = {0: [50_000, 200_000], 1: [10_000, 2000, 1000], 2: [200_000]}
    tested = []

    def play(bench, playing):
        for run in playing:
            run.evaluations += 8
            run.candidate, run.is_promising = torch.full((5,), float(run.seed)), False

    def put(bench, tested_runs, num_steps):
        for run in tested_runs:
            tested.append((run.seed, num_steps))
            if falls_after[run.seed][0] < num_steps:
                run.candidate = None
                falls_after[run.seed] = falls_after[run.seed][1:] or [0]

    monkeypatch.setattr(scripts.double_pole, "play_generation", play)
    monkeypatch.setattr(scripts.double_pole, "put_to_many_steps", put)
    monkeypatch.setattr(scripts.double_pole, "put_to_625_starts", lambda bench, run: None)
    ended = [(run.seed, run.solved, run.evaluations) for run in scripts.double_pole.evolve(bench, runs)]
    assert ended == [(1, False, 40), (2, True, 8), (0, True, 16)]
    assert [one for one in tested if one[1] == 100_000] == [(0, 100_000), (2, 100_000), (0, 100_000)]
