"""Longer corridors: the run is one that rlstm accepts, and the table counts seeds without a wrong turn."""

from typing import Any

from rlstm.cli.train import experiment


def test_the_run_is_one_that_rlstm_accepts(scripts: Any) -> None:
    verb, agent, *flags = scripts.longer_corridors.words(3, 1)
    config, _ = experiment(agent, flags)
    assert (verb, config.env.env_kwargs, config.run.seed) == ("train", {"corridor_length": 100}, 3)


def test_the_table_counts_seeds_without_a_wrong_turn(scripts: Any) -> None:
    rows = [
        {"corridor": corridor, "seed": seed, "successes": right, "mazes": "64", "commit": "0123456789"}
        for corridor, seed, right in (
            ("1000", "0", "64"),
            ("1000", "1", "64"),
            ("10000", "0", "64"),
            ("10000", "1", "32"),
        )
    ]
    assert scripts.longer_corridors.table(rows).splitlines()[2:] == [
        "| 1,000 | 2 of 2 | 1.000 | 1.000 |",
        "| 10,000 | 1 of 2 | 0.750 | 0.500 |",
    ]
    assert scripts.longer_corridors.table([]) == ""
