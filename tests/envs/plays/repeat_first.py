"""RepeatFirst."""

from typing import Any

VARIANTS = {"rlstm/RepeatFirstEasy-v0": [{"num_decks": 2}]}


def answer_the_first_suit(observations: list[Any], env: Any) -> Any:
    return observations[0]


def answer_the_present_suit(observations: list[Any], env: Any) -> Any:
    return observations[-1]


OPTIMAL = {"rlstm/RepeatFirstEasy-v0": answer_the_first_suit}
MEMORYLESS = {"rlstm/RepeatFirstEasy-v0": answer_the_present_suit}
