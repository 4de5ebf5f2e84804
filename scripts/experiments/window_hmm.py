"""A window classifier with a hidden Markov model, against which CTC is measured: no memory but the window.

A perceptron sees some steps to both sides of the present one and is taught which part of which symbol is passing by,
which CTC is never told. Every symbol is a chain of states, its parts, each of which may last; between symbols, and
before and after all, the blank may come. The posteriors of the perceptron over the frequencies of the states are what
the model takes for likelihoods (Bourlard and Morgan, *Connectionist speech recognition*, 1994), its transitions are
counted in the training sequences, and Viterbi's algorithm finds the likeliest chain.

Letters in shapes: T steps, N sequences, F features, S = K * PARTS + 1 states, the blank last.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlstm.envs.base.labelling import LabellingTask

PARTS = 3
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def states_of(targets: Ints, num_symbols: int) -> Ints:
    """Return the state at every step of a sequence whose framewise targets are ``(T,)``, ``(T,)``."""
    states = np.empty_like(targets)
    start = 0
    for label, run in itertools.groupby(targets.tolist()):
        width = len(list(run))
        parts = np.arange(width) * PARTS // width
        states[start : start + width] = num_symbols * PARTS if label == num_symbols else label * PARTS + parts
        start += width
    return states


def windows(inputs: Tensor, reach: int) -> Tensor:
    """Return the steps up to ``reach`` to both sides of each, ``(T, N, (2 reach + 1) F)``; zeros beyond the ends."""
    padded = F.pad(inputs, (0, 0, 0, 0, reach, reach))
    return padded.unfold(0, 2 * reach + 1, 1).flatten(2)


def transitions(sequences: list[Ints], num_states: int) -> tuple[Floats, Floats]:
    """Return log-probabilities of first states ``(S,)`` and of the next ones ``(S, S)``, counted in state sequences."""
    starts, counts = np.zeros(num_states), np.zeros((num_states, num_states))
    for states in sequences:
        starts[states[0]] += 1
        np.add.at(counts, (states[:-1], states[1:]), 1)
    with np.errstate(divide="ignore"):
        return np.log(starts / starts.sum()), np.log(counts / np.maximum(counts.sum(1, keepdims=True), 1))


def viterbi(likelihoods: Floats, starts: Floats, steps: Floats) -> Ints:
    """Return the likeliest states ``(T,)``, by log-likelihoods ``(T, S)`` of what is seen."""
    best, origins = starts + likelihoods[0], []
    for likelihood in likelihoods[1:]:
        paths = best[:, None] + steps
        origins.append(paths.argmax(0))
        best = paths.max(0) + likelihood
    states = [int(best.argmax())]
    for origin in reversed(origins):
        states.append(int(origin[states[-1]]))
    return np.array(states[::-1])


def string_of(states: Ints, num_symbols: int) -> list[int]:
    """Return the labels of a chain: one wherever a first part begins that the step before was not in."""
    is_new = np.concatenate([[True], states[1:] != states[:-1]])
    return [int(state) // PARTS for state in states[is_new] if state < num_symbols * PARTS and state % PARTS == 0]


class WindowHMM:
    """The perceptron and the model around it.

    Args:
        num_features: F.
        num_symbols: K.
        reach: Steps to each side that the perceptron sees.
        hidden_size: Of its one hidden layer.
    """

    def __init__(self, num_features: int, num_symbols: int, reach: int, hidden_size: int) -> None:
        self.num_symbols, self.reach = num_symbols, reach
        self.num_states = num_symbols * PARTS + 1
        width = (2 * reach + 1) * num_features
        self.network = nn.Sequential(
            nn.Linear(width, hidden_size), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden_size, self.num_states)
        )
        self.frequencies = self.starts = np.zeros(self.num_states)
        self.steps = np.zeros((self.num_states, self.num_states))

    def fit(self, batches: Iterator[tuple[Tensor, Tensor, Tensor]], num_batches: int, learning_rate: float) -> None:
        """Fit the perceptron to batches of inputs ``(T, N, F)``, targets and valid ``(T, N)``; count transitions."""
        optimiser = torch.optim.Adam(self.network.parameters(), learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, num_batches)
        sequences: list[Ints] = []
        self.network.train()
        for inputs, targets, valid in itertools.islice(batches, num_batches):
            states = [
                states_of(targets[:length, row].numpy(), self.num_symbols)
                for row, length in enumerate(valid.sum(0).tolist())
            ]
            sequences += states
            logits = self.network(windows(inputs, self.reach).transpose(0, 1)[valid.T])
            loss = F.cross_entropy(logits, torch.as_tensor(np.concatenate(states)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.network.eval()
        self.starts, self.steps = transitions(sequences, self.num_states)
        self.frequencies = np.bincount(np.concatenate(sequences), minlength=self.num_states).astype(np.float64)

    @torch.no_grad()
    def decode(self, inputs: Tensor, valid: Tensor) -> list[list[int]]:
        """Return the string of each sequence."""
        posteriors = self.network(windows(inputs, self.reach)).log_softmax(-1).double().numpy()
        likelihoods = posteriors - np.log(self.frequencies / self.frequencies.sum())
        return [
            string_of(viterbi(likelihoods[:length, row], self.starts, self.steps), self.num_symbols)
            for row, length in enumerate(valid.sum(0).tolist())
        ]


def draw_batches(
    task: type[LabellingTask], rng: np.random.Generator, size: int, **arguments: object
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield fresh sequences with their framewise targets without end."""
    while True:
        drawn = task.sample_labelled(size, rng, **arguments)
        yield torch.as_tensor(drawn.inputs), torch.as_tensor(drawn.targets), torch.as_tensor(drawn.valid)
