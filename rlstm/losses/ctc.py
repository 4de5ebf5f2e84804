"""Connectionist temporal classification: label whole sequences without knowing when which label is due.

Every step answers with one of K labels or the blank. A path is one answer a step; collapsed, runs of one answer become
a single one, then blanks go. The probability of a labelling is that of all paths that collapse to it.

Strings of labels are ``(B, L)`` integers, filled up with -1; ``valid`` is ``(T, B)``, True from the first to the last
step of a sequence, None where all have T steps. Whatever stands elsewhere is never read.

Source: A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, *Connectionist temporal classification: labelling unsegmented
sequence data with recurrent neural networks*, ICML 2006.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NO_LABEL = -1


def _lengths(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the steps of each sequence of ``values (T, B, ...)``, ``(B,)``."""
    if valid is None:
        return torch.full(values.shape[1:2], len(values), device=values.device)
    return valid.sum(0)


def steps_needed(labels: Tensor) -> Tensor:
    """Return the steps of the shortest path to each string, ``(B,)``: one a label and one between two equal labels."""
    repeats = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] >= 0)
    return (labels >= 0).sum(1) + repeats.sum(1)


def check_labels(labels: Tensor, valid: Tensor, *, blank: int, num_answers: int) -> None:
    """Refuse what no path can be collapsed to.

    Args:
        labels: ``(B, L)``.
        valid: ``(T, B)``.
        blank: Which answer is the blank.
        num_answers: K + 1.

    Raises:
        ValueError: If a string has the blank, an unknown label or a gap, or its sequence too few steps.
    """
    if bool((valid[1:] & ~valid[:-1]).any()):
        sequence = int((valid[1:] & ~valid[:-1]).any(0).nonzero()[0])
        raise ValueError(f"Sequence {sequence} goes on after it ended; CTC needs its valid steps first, the idle last.")
    wrong = (labels == blank) | (labels < NO_LABEL) | (labels >= num_answers)
    if bool(wrong.any()):
        sequence, place = (int(index) for index in wrong.nonzero()[0])
        raise ValueError(
            f"Label {int(labels[sequence, place])} of sequence {sequence} is none of the {num_answers} answers or the "
            f"blank, {blank}; labels are the other answers, and -1 fills up the end of a string."
        )
    if bool(((labels[:, 1:] >= 0) & (labels[:, :-1] < 0)).any()):
        sequence = int(((labels[:, 1:] >= 0) & (labels[:, :-1] < 0)).any(1).nonzero()[0])
        raise ValueError(f"The string of sequence {sequence} goes on after -1, which fills up its end only.")
    needed, lengths = steps_needed(labels), valid.sum(0)
    if bool((needed > lengths).any()):
        sequence = int((needed > lengths).nonzero()[0])
        count = int((labels[sequence] >= 0).sum())
        raise ValueError(
            f"Sequence {sequence} has {int(lengths[sequence])} steps for {count} labels, of which "
            f"{int(needed[sequence]) - count} repeat the one before; CTC needs {int(needed[sequence])} steps: one a "
            "label, and one for a blank between two equal labels. Lengthen the sequence or leave it out."
        )


def ctc_loss(
    logits: Tensor, labels: Tensor, valid: Tensor | None, *, blank: int, weights: Tensor | None = None
) -> Tensor:
    """Return the mean of -log p(labels) over the sequences, a scalar in nats (Graves et al. 2006, equations 3 and 8).

    Args:
        logits: ``(T, B, K + 1)``.
        labels: ``(B, L)``; what ``check_labels`` refuses has an infinite loss.
        valid: ``(T, B)`` or None.
        blank: Which answer is the blank.
        weights: ``(B,)`` of the sequences in the mean; 1 each if None.
    """
    if valid is not None:
        logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
    counts = (labels >= 0).sum(1)
    if weights is not None:
        counts = torch.where(weights > 0, counts, 0)  # An impossible string would have a gradient of NaN, times 0.
    losses = F.ctc_loss(
        F.log_softmax(logits, -1),
        labels.clamp(min=0),
        _lengths(logits, valid),
        counts,
        blank=blank,
        reduction="none",
    )
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum()


class LabelLoss(NamedTuple):
    """The loss of outputs, and how right their likeliest paths are."""

    value: Tensor  # A scalar.
    gradient: Tensor  # (T, B, K + 1) with respect to the outputs.
    label_error_rate: float
    right_strings: float  # Share of strings that are exact.


def label_loss(outputs: Tensor, labels: Tensor, valid: Tensor, *, blank: int) -> LabelLoss:
    """Return ``ctc_loss`` with its gradient, and the errors of best path decoding; arguments as of ``ctc_loss``."""
    leaf = outputs.detach().requires_grad_()
    value = ctc_loss(leaf, labels, valid, blank=blank)
    (gradient,) = torch.autograd.grad(value, leaf)
    found = greedy_labels(leaf.detach(), valid, blank=blank)
    distances = edit_distances(found, labels)
    rate = int(distances.sum()) / max(int((labels >= 0).sum()), 1)
    return LabelLoss(value.detach(), gradient, rate, float((distances == 0).double().mean()))


def collapse(paths: Tensor, valid: Tensor | None, *, blank: int) -> Tensor:
    """Return the strings of paths ``(T, B)``, ``(B, T)``: runs of one answer become one, blanks none; then -1."""
    paths = paths if valid is None else torch.where(valid, paths, blank)
    before = torch.cat([torch.full_like(paths[:1], blank), paths[:-1]])
    kept = ((paths != blank) & (paths != before)).T
    places = torch.where(kept, kept.cumsum(1) - 1, len(paths))  # What is left out goes to a column that is cut off.
    strings = torch.full((paths.shape[1], len(paths) + 1), NO_LABEL, dtype=paths.dtype, device=paths.device)
    return strings.scatter_(1, places, paths.T)[:, :-1].masked_fill_(_beyond(kept), NO_LABEL)


def _beyond(kept: Tensor) -> Tensor:
    """Return which places ``(B, T)`` are beyond as many labels as are kept in each row."""
    return torch.arange(kept.shape[1], device=kept.device) >= kept.sum(1, keepdim=True)


def greedy_labels(logits: Tensor, valid: Tensor | None, *, blank: int) -> Tensor:
    """Return the strings of the likeliest paths, ``(B, T)``: best path decoding (section 3.2)."""
    return collapse(logits.argmax(-1), valid, blank=blank)


def beam_labels(logits: Tensor, valid: Tensor | None, *, blank: int, beam_width: int = 10) -> tuple[Tensor, Tensor]:
    """Return likely strings and the log-probability of the paths to them that were followed.

    Beginnings of strings are extended step by step, and the likeliest are kept: a beam search over prefixes (section
    3.2 has the search over prefixes; Graves, *Supervised sequence labelling with recurrent neural networks*, 2012,
    section 7.5, the beam). Of the likeliest labelling this finds more than ``greedy_labels``, which follows one path.

    Args:
        logits: ``(T, B, K + 1)``.
        valid: ``(T, B)`` or None.
        blank: Which answer is the blank.
        beam_width: Beginnings that are kept; with enough of them the string is the likeliest of all.

    Returns:
        ``(B, T)`` strings and ``(B,)`` log-probabilities.

    Raises:
        ValueError: If the width is less than 1.
    """
    if beam_width < 1:
        raise ValueError(f"beam_width is {beam_width}; a beam keeps 1 beginning or more.")
    steps, count, _ = logits.shape
    lengths = _lengths(logits, valid).tolist()
    log_probs = F.log_softmax(logits.detach().double(), -1).transpose(0, 1).tolist()
    strings = torch.full((count, steps), NO_LABEL, device=logits.device)
    likelihoods = []
    for row, (sequence, length) in enumerate(zip(log_probs, lengths, strict=True)):
        string, likelihood = _search(sequence[:length], blank, beam_width)
        strings[row, : len(string)] = torch.tensor(string, dtype=torch.long, device=logits.device)
        likelihoods.append(likelihood)
    return strings, torch.tensor(likelihoods, dtype=logits.dtype, device=logits.device)


Prefix = tuple[int, ...]


def _search(log_probs: list[list[float]], blank: int, beam_width: int) -> tuple[Prefix, float]:
    """Return the likeliest string of one sequence, and its log-probability.

    Each beginning has two log-probabilities: of its paths that end in a blank, and of those that end in its last label.
    """
    beam: dict[Prefix, tuple[float, float]] = {(): (0.0, -math.inf)}
    for step in log_probs:
        longer: dict[Prefix, tuple[float, float]] = {}
        for prefix, (in_blank, in_label) in beam.items():
            either = _log_add(in_blank, in_label)
            last = prefix[-1] if prefix else None
            stays = -math.inf if last is None else in_label + step[last]
            _put(longer, prefix, either + step[blank], stays)
            for label, log_prob in enumerate(step):
                if label != blank:
                    # The same label again is a new one only after a blank.
                    _put(longer, (*prefix, label), -math.inf, log_prob + (in_blank if label == last else either))
        kept = sorted(longer, key=lambda prefix: -_log_add(*longer[prefix]))[:beam_width]
        beam = {prefix: longer[prefix] for prefix in kept}
    best = next(iter(beam))
    return best, _log_add(*beam[best])


def _put(beam: dict[Prefix, tuple[float, float]], prefix: Prefix, in_blank: float, in_label: float) -> None:
    """Add paths to a beginning."""
    before = beam.get(prefix)
    if before is not None:
        in_blank, in_label = _log_add(before[0], in_blank), _log_add(before[1], in_label)
    beam[prefix] = in_blank, in_label


def _log_add(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other))."""
    larger, smaller = max(one, other), min(one, other)
    return larger if smaller == -math.inf else larger + math.log1p(math.exp(smaller - larger))


def edit_distances(found: Tensor, labels: Tensor) -> Tensor:
    """Return the fewest insertions, deletions and substitutions from strings to others, ``(B,)`` (Levenshtein 1966).

    Row i has the distances of the first i labels found to the first 0, ..., L labels: D_i(j) = min over k <= j of
    min(D_{i-1}(k) + 1, D_{i-1}(k - 1) + [found_i ≠ label_k]) + j - k.

    Args:
        found: ``(B, M)``.
        labels: ``(B, L)``.
    """
    places = torch.arange(labels.shape[1] + 1, device=labels.device)
    distances = places.repeat(len(labels), 1)
    for answer in found[:, : int((found >= 0).sum(1).max())].T.unsqueeze(-1) if found.numel() else []:
        after = distances + 1
        after[:, 1:] = torch.minimum(after[:, 1:], distances[:, :-1] + (labels != answer))
        after = (after - places).cummin(1).values + places
        distances = torch.where(answer >= 0, after, distances)
    return distances.gather(1, (labels >= 0).sum(1, keepdim=True)).squeeze(1)


def label_error_rate(found: Tensor, labels: Tensor) -> float:
    """Return the sum of the edit distances over the sum of the labels (Graves et al. 2006, equation 1).

    Raises:
        ValueError: If there is no label.
    """
    count = int((labels >= 0).sum())
    if not count:
        raise ValueError("There is no label in any string, so there is no rate of errors: pass strings with labels.")
    return int(edit_distances(found, labels).sum()) / count
