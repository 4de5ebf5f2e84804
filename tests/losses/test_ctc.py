"""Connectionist temporal classification against all paths of tiny problems, and edit distances against their rule."""

import functools
import itertools

import pytest
import torch

from rlstm.losses.ctc import (
    beam_labels,
    check_labels,
    collapse,
    ctc_loss,
    edit_distances,
    greedy_labels,
    label_error_rate,
    steps_needed,
)


def collapsed(path, blank):
    """Runs merged, blanks left out."""
    return tuple(answer for answer, _ in itertools.groupby(path) if answer != blank)


def all_strings(logits, blank):
    """Probability of every string, summed over all paths of logits (T, K + 1)."""
    probs, strings = logits.double().softmax(-1), {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        string = collapsed(path, blank)
        probability = float(torch.stack([probs[step, answer] for step, answer in enumerate(path)]).prod())
        strings[string] = strings.get(string, 0.0) + probability
    return strings


def padded(strings, width=None):
    width = max(map(len, strings)) if width is None else width
    return torch.tensor([[*string, *[-1] * (width - len(string))] for string in strings])


def unpadded(strings):
    return [tuple(label for label in string if label >= 0) for string in strings.tolist()]


def some_logits(seed, *shape, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_the_loss_is_minus_the_log_of_the_sum_over_all_paths(steps, blank):
    logits = some_logits(steps, steps, 1, 3)
    for string, probability in all_strings(logits[:, 0], blank).items():
        labels = padded([string], width=5)
        found = ctc_loss(logits, labels, None, blank=blank)
        assert float(found.exp()) == pytest.approx(1 / probability, rel=1e-9)


def test_the_loss_is_the_weighted_mean_over_sequences():
    logits, labels = some_logits(0, 6, 3, 4), padded([(0, 1), (2,), (1, 1, 0)])
    each = torch.stack([ctc_loss(logits[:, [b]], labels[[b]], None, blank=3) for b in range(3)])
    assert float(ctc_loss(logits, labels, None, blank=3)) == pytest.approx(float(each.mean()), rel=1e-12)
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    expected = float((each[0] + 3 * each[2]) / 4)
    assert float(ctc_loss(logits, labels, None, blank=3, weights=weights)) == pytest.approx(expected, rel=1e-12)


def test_a_sequence_without_weight_may_be_impossible():
    logits, labels = some_logits(0, 2, 2, 4).requires_grad_(), padded([(0, 1), (2, 2)])
    loss = ctc_loss(logits, labels, None, blank=3, weights=torch.tensor([1.0, 0.0], dtype=torch.float64))
    loss.backward()
    assert torch.isfinite(loss.detach())
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, 1].any()


def test_idle_steps_are_never_read():
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[4:, 1] = False
    clean, labels = some_logits(1, 6, 2, 4), padded([(0, 1), (2, 2)])
    dirty = torch.where(valid.unsqueeze(-1), clean, torch.nan).requires_grad_()
    loss = ctc_loss(dirty, labels, valid, blank=3)
    loss.backward()
    alone = [ctc_loss(clean[:length, [b]], labels[[b]], None, blank=3) for b, length in ((0, 6), (1, 4))]
    assert float(loss.detach()) == pytest.approx(float(sum(alone)) / 2, rel=1e-12)
    assert torch.isfinite(dirty.grad).all()
    assert not dirty.grad[4:, 1].any()
    assert torch.equal(greedy_labels(dirty.detach(), valid, blank=3), greedy_labels(clean, valid, blank=3))
    assert (
        unpadded(beam_labels(dirty.detach(), valid, blank=3)[0])[1]
        == unpadded(beam_labels(clean[:4, [1]], None, blank=3)[0])[0]
    )


def test_gradients_are_those_of_finite_differences():
    logits, labels = some_logits(2, 5, 2, 3).requires_grad_(), padded([(0, 0), (1,)])
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, labels, None, blank=2), logits)


@pytest.mark.parametrize("blank", [0, 2])
def test_collapsing_merges_runs_and_drops_blanks_for_every_path(blank):
    paths = torch.tensor(list(itertools.product(range(3), repeat=5))).T
    found = collapse(paths, None, blank=blank)
    assert found.shape == (3**5, 5)
    assert unpadded(found) == [collapsed(path, blank) for path in paths.T.tolist()]
    assert not ((found[:, 1:] >= 0) & (found[:, :-1] < 0)).any()


def test_greedy_decoding_collapses_the_likeliest_answers():
    path = [2, 0, 0, 2, 0, 1, 1]
    logits = torch.nn.functional.one_hot(torch.tensor(path), 3).double().unsqueeze(1)
    assert unpadded(greedy_labels(logits, None, blank=2)) == [(0, 0, 1)]


@pytest.mark.parametrize("seed", range(12))
def test_a_wide_beam_finds_the_likeliest_string_and_its_probability(seed):
    logits, blank = some_logits(seed, 4, 1, 3, scale=1.0), seed % 3
    strings = all_strings(logits[:, 0], blank)
    found, log_prob = beam_labels(logits, None, blank=blank, beam_width=1_000)
    best = max(strings, key=strings.get)
    assert unpadded(found) == [best]
    assert float(log_prob.exp()) == pytest.approx(strings[best], rel=1e-9)


def test_the_beam_finds_a_string_that_the_best_path_misses():
    # Graves et al. 2006, section 3.2: blank is likeliest at both steps, yet all paths with the label are likelier.
    logits = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log().unsqueeze(1)
    assert unpadded(greedy_labels(logits, None, blank=1)) == [()]
    found, log_prob = beam_labels(logits, None, blank=1)
    assert unpadded(found) == [(0,)]
    assert float(log_prob.exp()) == pytest.approx(0.64, rel=1e-5)


def test_a_narrow_beam_never_claims_more_than_the_string_has():
    for seed in range(20):
        logits = some_logits(seed, 5, 1, 3, scale=1.0)
        strings = all_strings(logits[:, 0], 2)
        found, log_prob = beam_labels(logits, None, blank=2, beam_width=2)
        assert float(log_prob.exp()) <= strings[unpadded(found)[0]] * (1 + 1e-9)


def test_a_beam_of_no_width_is_refused():
    with pytest.raises(ValueError, match="beam_width is 0"):
        beam_labels(some_logits(0, 2, 1, 3), None, blank=2, beam_width=0)


@functools.cache
def levenshtein(one, other):
    if not one or not other:
        return len(one) + len(other)
    same = levenshtein(one[:-1], other[:-1]) + (one[-1] != other[-1])
    return min(same, levenshtein(one[:-1], other) + 1, levenshtein(one, other[:-1]) + 1)


def test_edit_distances_of_all_pairs_of_short_strings():
    strings = [string for length in range(5) for string in itertools.product(range(2), repeat=length)]
    pairs = list(itertools.product(strings, repeat=2))
    found, labels = (padded([pair[side] for pair in pairs]) for side in (0, 1))
    assert edit_distances(found, labels).tolist() == [levenshtein(*pair) for pair in pairs]
    assert edit_distances(found[:, :0], labels).tolist() == (labels >= 0).sum(1).tolist()


def test_the_label_error_rate_weighs_every_label_the_same():
    found, labels = padded([(1,), (2, 2, 2)]), padded([(0,), (2, 2, 2)])
    assert label_error_rate(found, labels) == 0.25
    with pytest.raises(ValueError, match="There is no label"):
        label_error_rate(found, torch.full((2, 3), -1))


@pytest.mark.parametrize("string", [(), (0,), (0, 0), (0, 1, 0), (1, 1, 1), (0, 0, 1, 1)])
def test_no_path_is_shorter_than_the_steps_needed(string):
    lengths = [
        length
        for length in range(1, 8)
        if any(collapsed(path, 2) == string for path in itertools.product(range(3), repeat=length))
    ]
    assert max(int(steps_needed(padded([string], width=4))), 1) == lengths[0]


@pytest.mark.parametrize(
    ("labels", "length", "message"),
    [
        (
            [[0, 1, -1], [0, 0, 1]],
            3,
            r"Sequence 1 has 3 steps for 3 labels, of which 1 repeat the one before; .* 4 steps",
        ),
        ([[0, 1, -1], [0, 2, 1]], 6, "Label 2 of sequence 1 is none of the 3 answers or the blank, 2"),
        ([[0, 3, -1], [0, 1, 1]], 6, "Label 3 of sequence 0"),
        ([[0, -2, -1], [0, 1, 1]], 6, "Label -2 of sequence 0"),
        ([[0, 1, -1], [0, -1, 1]], 6, "The string of sequence 1 goes on after -1"),
    ],
)
def test_what_no_path_collapses_to_is_refused_by_its_sequence(labels, length, message):
    valid = torch.ones(6, 2, dtype=torch.bool)
    valid[length:, 1] = False
    with pytest.raises(ValueError, match=message):
        check_labels(torch.tensor(labels), valid, blank=2, num_answers=3)


def test_sequences_with_enough_steps_pass_and_those_with_idle_steps_inside_do_not():
    labels, valid = torch.tensor([[0, 1, -1], [0, 0, 1]]), torch.ones(4, 2, dtype=torch.bool)
    check_labels(labels, valid, blank=2, num_answers=3)
    valid[1, 1] = False
    with pytest.raises(ValueError, match="Sequence 1 goes on after it ended"):
        check_labels(labels, valid, blank=2, num_answers=3)
