"""RepeatPrevious."""

from typing import Any

VARIANTS = {"rlstm/RepeatPrevious-v0": [{"num_decks": 2, "k": 32}, {"num_decks": 3, "k": 64}, {"k": 1}]}


def answer_the_card_asked_for(observations: list[Any], env: Any) -> Any:
    return observations[-min(env.task.k, len(observations))]


def answer_another_suit(observations: list[Any], env: Any) -> Any:
    return observations[-1] if env.task.k == 1 else (observations[-1] + 1) % 4


OPTIMAL = {"rlstm/RepeatPrevious-v0": answer_the_card_asked_for}
MEMORYLESS = {"rlstm/RepeatPrevious-v0": answer_another_suit}
