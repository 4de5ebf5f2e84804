"""Concentration: the best play and, by dynamic programming, how many pairs fail in it.

The state of a perfect memory, before a pair, is how many cards of each type are unknown and how many known, not yet
found. The cost is the mean number of failed pairs until all cards are found. In "all choices" that is minimised over
everything that can change the state; the "simple" choices are: the first card is an unknown one, the second a known
card of its type or another unknown one.
"""

from functools import cache
from typing import Any

import numpy as np

VARIANTS = {"rlstm/ConcentrationEasy-v0": [{"deck_type": "ranks"}, {"num_decks": 2, "deck_type": "ranks"}]}


@cache
def solve_two_types(cards_per_type: int, all_choices: bool) -> tuple[Any, Any]:
    """Costs by (unknown, unknown, known, known), and where an unknown second card beats a known one of its type.

    In the second table the first two axes count the first card, turned up, as unknown, and its type comes first.
    """
    size = cards_per_type + 1
    costs = np.full((size, size, size + 1, size + 1), np.inf)
    costs[0, 0] = 0.0
    gambles = np.zeros((size, size, size, size), dtype=bool)
    for total in range(1, 2 * size - 1):
        for own in range(max(0, total - cards_per_type), min(total, cards_per_type) + 1):
            other = total - own
            cost = np.zeros((size, size))
            if own:
                best, gambles[own, other] = second_choice(costs, own, other, all_choices)
                cost += own / total * best
            if other:
                # The same with the types exchanged.
                best, _ = second_choice(costs.transpose(1, 0, 3, 2), other, own, all_choices)
                cost += other / total * best.T
            if all_choices:
                cost = np.minimum(cost, first_card_known(costs, own, other))
                cost = np.minimum(cost, first_card_known(costs.transpose(1, 0, 3, 2), other, own).T)
                for known in range(2, size):
                    cost[known] = np.minimum(cost[known], cost[known - 2])
                for known in range(2, size):
                    cost[:, known] = np.minimum(cost[:, known], cost[:, known - 2])
            costs[own, other, :size, :size] = cost
    return costs, gambles


def second_choice(costs: Any, own: int, other: int, all_choices: bool) -> tuple[Any, Any]:
    """Least cost once an unknown card of the first type is turned up, by (known, known)."""
    total = own + other
    size = costs.shape[2] - 1
    known = np.full((size, size), np.inf)
    known[1:] = costs[own - 1, other, : size - 1, :size]
    unknown = np.full((size, size), np.inf)
    if total > 1:
        unknown = np.zeros((size, size))
        if own > 1:
            unknown += (own - 1) / (total - 1) * costs[own - 2, other, :size, :size]
        if other:
            unknown += other / (total - 1) * (1 + costs[own - 1, other - 1, 1:, 1:])
    best = np.minimum(known, unknown)
    if all_choices:
        best = np.minimum(best, 1 + costs[own - 1, other, 1:, :size])  # A choice that can't match.
    return best, unknown < known - 1e-12


def first_card_known(costs: Any, own: int, other: int) -> Any:
    """Cost of a known card of the first type, and then an unknown card, by (known, known)."""
    size = costs.shape[2] - 1
    cost = np.full((size, size), np.inf)
    cost[1:] = 0.0
    if own:
        cost[1:] += own / (own + other) * costs[own - 1, other, : size - 1, :size]
    if other:
        cost[1:] += other / (own + other) * (1 + costs[own, other - 1, 1:size, 1:])
    return cost


def solve_many_types(num_types: int, cards_per_type: int, all_choices: bool) -> float:
    """The cost at the start. A state is the sorted pairs (unknown, known) of the types with unknown cards."""

    @cache
    def cost(state: tuple[tuple[int, int], ...]) -> float:
        if not state:
            return 0.0
        total = sum(unknown for unknown, _ in state)
        first_unknown = sum(unknown / total * second(state, index, total) for index, (unknown, _) in enumerate(state))
        return min([first_unknown, *(first_known(state, total) if all_choices else ())])

    def second(state: tuple[tuple[int, int], ...], index: int, total: int) -> float:
        unknown, known = state[index]
        turned = changed(state, {index: (unknown - 1, known + 1)})
        choices = [1 + cost(turned)] if all_choices else []
        if known:
            choices.append(cost(changed(state, {index: (unknown - 1, known - 1)})))
        if total > 1:
            value = (
                (unknown - 1) / (total - 1) * cost(changed(state, {index: (unknown - 2, known)})) if unknown > 1 else 0
            )
            for other, (there, known_there) in enumerate(state):
                if other != index:
                    after = {index: (unknown - 1, known + 1), other: (there - 1, known_there + 1)}
                    value += there / (total - 1) * (1 + cost(changed(state, after)))
            choices.append(value)
        return min(choices)

    def first_known(state: tuple[tuple[int, int], ...], total: int) -> Any:
        for index, (unknown, known) in enumerate(state):
            if known >= 2:
                yield cost(changed(state, {index: (unknown, known - 2)}))
            if known:
                value = unknown / total * cost(changed(state, {index: (unknown - 1, known - 1)}))
                for other, (there, known_there) in enumerate(state):
                    if other != index:
                        value += there / total * (1 + cost(changed(state, {other: (there - 1, known_there + 1)})))
                yield value

    return cost(((cards_per_type, 0),) * num_types)


def changed(state: tuple[tuple[int, int], ...], new: dict[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    pairs = [new.get(index, pair) for index, pair in enumerate(state)]
    return tuple(sorted(pair for pair in pairs if pair[0]))


class BestPlay:
    """Remembers all cards; of two types it gambles where the table says so, of ranks it never does."""

    def __call__(self, observations: list[Any], env: Any) -> Any:
        view, task = observations[-1], env.task
        lanes = np.arange(len(view))
        if len(observations) == 1:
            self.types = np.full(view.shape, task.num_types)
            self.found = np.zeros(view.shape, dtype=bool)
        self.types = np.where(view < task.num_types, view, self.types)
        if len(observations) % 2:
            if len(observations) > 1:
                is_pair = view[lanes, self.first] == view[lanes, self.second]
                self.found[lanes, self.first] |= is_pair
                self.found[lanes, self.second] |= is_pair
            unknown = self.types == task.num_types
            self.first = np.where(unknown.any(axis=1), unknown.argmax(axis=1), (~self.found).argmax(axis=1))
            return self.first
        self.second = self.choose_second(task, lanes)
        return self.second

    def choose_second(self, task: Any, lanes: Any) -> Any:
        own = self.types[lanes, self.first]
        unknown = self.types == task.num_types
        is_other = np.arange(task.num_cards) != self.first[:, None]
        known = ~unknown & ~self.found & is_other
        mates = known & (self.types == own[:, None])
        takes_unknown = unknown.any(axis=1) & ~mates.any(axis=1)
        if task.num_types == 2:
            per_type = task.num_cards // 2
            unknown_own = per_type - ((self.types == own[:, None]) & is_other).sum(axis=1)
            unknown_other = unknown.sum(axis=1) + 1 - unknown_own
            known_own, known_other = mates.sum(axis=1), (known & ~mates).sum(axis=1)
            _, gambles = solve_two_types(per_type, False)
            # Envs whose first episode is over aren't followed: their counts are of two episodes.
            counts = [np.clip(count, 0, per_type) for count in (unknown_own, unknown_other, known_own, known_other)]
            takes_unknown |= gambles[tuple(counts)] & unknown.any(axis=1)
        return np.where(takes_unknown, unknown.argmax(axis=1), mates.argmax(axis=1))


OPTIMAL = {"rlstm/ConcentrationEasy-v0": BestPlay()}
