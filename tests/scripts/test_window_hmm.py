"""The baseline of labelling: states, their chain and Viterbi's algorithm, against all chains of tiny problems."""

import itertools

import numpy as np
import pytest
import torch

from rlstm.envs.sequences.spoken import SpokenStrings
from scripts.experiments.labelling import padded, read, scores
from scripts.experiments.window_hmm import (
    WindowHMM,
    draw_batches,
    states_of,
    string_of,
    transitions,
    viterbi,
    windows,
)
from tests import kit


def test_the_parts_of_a_symbol_follow_each_other_and_blanks_have_one_state() -> None:
    targets = np.array([2, 0, 0, 0, 0, 0, 0, 2, 1, 1, 1])
    assert states_of(targets, 2).tolist() == [6, 0, 0, 1, 1, 2, 2, 6, 3, 4, 5]


def test_a_string_is_read_off_the_beginnings_of_symbols() -> None:
    assert string_of(np.array([6, 0, 0, 1, 2, 3, 4, 5, 6, 3, 4, 5]), 2) == [0, 1, 1]
    assert string_of(np.array([0, 1, 2, 0, 1, 2]), 2) == [0, 0]


@pytest.mark.parametrize("task_arguments", [{}, {"min_duration": 3, "max_gap": 1}])
def test_states_of_targets_give_the_string_back(task_arguments) -> None:
    drawn = SpokenStrings.sample_labelled(40, np.random.default_rng(0), **task_arguments)
    for row, length in enumerate(drawn.lengths):
        labels = [label for label in drawn.labels[row].tolist() if label >= 0]
        assert string_of(states_of(drawn.targets[:length, row], 10), 10) == labels


def test_viterbi_finds_the_likeliest_of_all_chains() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        likelihoods, starts, steps = (rng.normal(size=shape) for shape in ((5, 3), 3, (3, 3)))
        steps[0, 2] = -np.inf
        chains = list(itertools.product(range(3), repeat=5))
        totals = [
            starts[chain[0]]
            + sum(likelihoods[step, state] for step, state in enumerate(chain))
            + sum(steps[one, other] for one, other in itertools.pairwise(chain))
            for chain in chains
        ]
        assert tuple(viterbi(likelihoods, starts, steps)) == chains[int(np.argmax(totals))]


def test_transitions_are_shares_of_what_was_counted() -> None:
    starts, steps = transitions([np.array([0, 0, 1]), np.array([1, 0, 1])], 3)
    np.testing.assert_allclose(np.exp(starts), [0.5, 0.5, 0])
    np.testing.assert_allclose(np.exp(steps), [[1 / 3, 2 / 3, 0], [1, 0, 0], [0, 0, 0]])


def test_a_window_has_the_steps_around_each_and_zeros_beyond_the_ends() -> None:
    inputs = torch.arange(1.0, 9.0).view(4, 1, 2)  # Steps (1, 2), (3, 4), (5, 6), (7, 8).
    found = windows(inputs, 1)
    assert found.shape == (4, 1, 6)
    assert sorted(found[0, 0].tolist()) == [0, 0, 1, 2, 3, 4]
    assert sorted(found[2, 0].tolist()) == [3, 4, 5, 6, 7, 8]


def test_the_baseline_learns_easy_strings() -> None:
    torch.manual_seed(0)
    easy = {"noise": 0.0, "voices": 0.0, "min_labels": 1, "max_labels": 3, "min_duration": 5, "max_duration": 7}
    model = WindowHMM(4, 10, reach=4, hidden_size=64)
    model.fit(draw_batches(SpokenStrings, np.random.default_rng(0), 32, **easy), 80, 1e-2)
    drawn = SpokenStrings.sample_labelled(60, np.random.default_rng(1), **easy)
    found = model.decode(torch.as_tensor(drawn.inputs), torch.as_tensor(drawn.valid))
    assert float(scores(padded(found), torch.as_tensor(drawn.labels))["label_error_rate"]) < 0.1


def test_a_policy_reads_every_strip_as_if_alone() -> None:
    drawn = SpokenStrings.sample_labelled(3, np.random.default_rng(0))
    task = SpokenStrings(1)
    policy = kit.make_policy(task.observation_space, task.action_space, bidirectional=True)
    outputs = read(policy, drawn)
    for row, length in enumerate(drawn.lengths):
        alone = drawn._replace(
            **{name: getattr(drawn, name)[:length, [row]] for name in ("inputs", "targets", "valid")}
        )
        assert torch.allclose(read(policy, alone)[:, 0], outputs[:length, row], atol=1e-12)
