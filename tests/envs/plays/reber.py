"""The embedded Reber grammar."""

from typing import Any

import numpy as np

VARIANTS = {"rlstm/EmbeddedReber-v0": [{"num_strings": 3}]}

SYMBOLS = "BTPSXVE"
# The legal symbols at each place of a string: before and after the inner string, and at the inner nodes 0 ... 6.
LEGAL = {"opened": "TP", "closed": "E", "over": "B"} | dict(enumerate(["B", "TP", "SX", "TV", "XS", "PV", "E"]))
# Where a symbol leads inside; E leads out, to the place named for the T or P that must come again.
INSIDE = {"0B": 1, "1T": 2, "1P": 3, "2S": 2, "2X": 4, "3T": 3, "3V": 5, "4X": 3, "4S": 6, "5P": 4, "5V": 6}


def as_sets(words: list[str]) -> Any:
    return np.array([[symbol in word for symbol in SYMBOLS] for word in words]).astype(int)


def legal_after(string: str) -> str:
    """Follows the grammar from the last B that opens a string."""
    place: Any = "over"
    first = ""
    for symbol in string:
        if place == "over":
            place = "opened"
        elif place == "opened":
            place, first = 0, symbol
        elif place == 6:
            place = "inner string over"
        elif place == "inner string over":
            place = "closed"
        elif place == "closed":
            place = "over" if symbol == "E" else "opened"  # A lane whose episode is over sees the B of the next.
        else:
            place = INSIDE[f"{place}{symbol}"]
    return first if place == "inner string over" else LEGAL[place]


def follow_the_grammar(observations: list[Any], env: Any) -> Any:
    strings = ["".join(SYMBOLS[symbol] for symbol in lane) for lane in np.array(observations).T]
    return as_sets([legal_after(string) for string in strings])


def give_each_symbol_the_set_that_follows_it_most_often(observations: list[Any], env: Any) -> Any:
    after_e = "T" if env.task.num_strings == 1 else "B"
    table = as_sets(["TP", "TV", "SX", "SX", "TV", "PV", after_e])
    return table[observations[-1]]


OPTIMAL = {"rlstm/EmbeddedReber-v0": follow_the_grammar}
MEMORYLESS = {"rlstm/EmbeddedReber-v0": give_each_symbol_the_set_that_follows_it_most_often}
