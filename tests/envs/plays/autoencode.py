"""Autoencode."""

from typing import Any

VARIANTS = {"rlstm/AutoencodeEasy-v0": [{"num_decks": 2}]}


def tell_the_deck_backwards(observations: list[Any], env: Any) -> Any:
    answers_before = len(observations) - env.task.num_cards
    # While the cards are watched, the answer doesn't matter.
    return observations[env.task.num_cards - 1 - answers_before if answers_before >= 0 else 0][:, 1]


def answer_the_suit_in_view(observations: list[Any], env: Any) -> Any:
    return observations[-1][:, 1]


OPTIMAL = {"rlstm/AutoencodeEasy-v0": tell_the_deck_backwards}
MEMORYLESS = {"rlstm/AutoencodeEasy-v0": answer_the_suit_in_view}
