"""Concentration, also called Memory or Pairs: cards lie face down, and pairs are to be turned up."""

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, exact, unknown
from rlstm.envs.base.cards import CARDS_PER_DECK, NUM_SUITS, POPGYM, SYMBOLS, shuffled_decks
from rlstm.envs.base.checks import check_choice, check_integer

DECK_TYPES = ("colors", "ranks")

# The mean number of failed pairs in the best play, by number of decks and deck type; a test computes them.
FAILED_PAIRS_AT_BEST = {
    (1, "colors"): 8.670579347399087,
    (2, "colors"): 17.334135279817062,
    (1, "ranks"): 13.917183345946398,
}


class Concentration(BatchedTask):
    """Turn up two cards at a time, until all are found in pairs of the same type.

    N = 52 `num_decks` shuffled cards all lie face down at first, N / K of each of K types. The player turns one card up
    and then a second. If they are of the same type they stay up; if not, both are seen, and turned down at the next
    choice. To choose a card that is already up, or the same card twice, wastes the pair. So it must be remembered which
    card lies where. popgym's Easy, Medium and Hard are 1 deck of colours, 2 decks of colours, 1 deck of ranks.

    ## Action Space
    Discrete(N): the place of the card to turn up.

    ## Observation Space
    MultiDiscrete([K + 1] * N): the type of the card at each place; K if it lies face down.

    ## Rewards
    With L = 2 N:

    | choice | reward |
    |---|---|
    | the second card of a pair of the same type | 2 / N |
    | a second card of another type, the same card again, or a card that was found before | -2 / L |
    | a first card that was found before; the next choice is a first one again | -1 / L |
    | any other first card | 0 |

    ## Episode End
    Terminated when all cards are found, which is success. Truncated after L steps.

    ## Arguments
    - `num_decks`: 1 or more.
    - `deck_type`: "colors" (K = 2) or "ranks" (13).
    """

    memory = "which card lies where"
    source = POPGYM
    state_arrays = ("types", "found", "pairs_found", "view", "chosen", "awaits_second")
    memory_length = None  # It depends on the play when a card is needed again.
    # Not worked out. A player without memory chooses which card to turn up next, and the card then in view
    # tells it what it chose: the places of cards are a memory that the best such player would use.
    memoryless_return = unknown("the choice of places can carry memory; the best use of it isn't known")

    def __init__(self, num_envs: int, num_decks: int = 1, deck_type: str = "ranks") -> None:
        check_integer("num_decks", num_decks, 1)
        check_choice("deck_type", deck_type, DECK_TYPES)
        self.num_decks, self.deck_type = num_decks, deck_type
        self.num_types = len(SYMBOLS[deck_type])
        self.num_cards = CARDS_PER_DECK * num_decks
        # popgym's limit, ceil(2 N - N / (2 N - 1)), is 2 N, as the fraction lies between 1/2 and 1.
        super().__init__(
            num_envs, MultiDiscrete([self.num_types + 1] * self.num_cards), Discrete(self.num_cards), 2 * self.num_cards
        )
        self.types: IntArray = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.found: BoolArray = np.zeros((num_envs, self.num_cards), dtype=np.bool_)
        self.pairs_found: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.view: IntArray = np.full((num_envs, self.num_cards), self.num_types)
        # The places of the last pair, or twice the first card's while the second is awaited. What stands here at the
        # start of an episode lies face down anyway.
        self.chosen: IntArray = np.zeros((num_envs, 2), dtype=np.int64)
        self.awaits_second: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        self.failure, self.success = -1.0 / (2 * self.num_cards), 2.0 / self.num_cards
        # Failed pairs are few for a player who remembers everything, but the first cards are found by luck. Every pair
        # earns 2 / N, together 1, and every failed pair costs 2 / L. What counts is how many cards of each type are
        # known and unknown. Dynamic programming over these numbers, without a step limit, gives the least mean number
        # of failed pairs. It is attained by plays that begin with an unknown card and fail only by turning up a second
        # unknown card, at most N / 2 times, so that the limit is never exceeded. Nor does the limit help: a player
        # stopped with q pairs missing forgoes 4 q / L, and to find them costs no more.
        self.optimal_return = bound(1.0, "every pair earns 2 / N, and only luck could avoid all failed ones")
        if (num_decks, deck_type) in FAILED_PAIRS_AT_BEST:
            value = 1.0 + 2.0 * FAILED_PAIRS_AT_BEST[num_decks, deck_type] * self.failure
            self.optimal_return = exact(value, "the fewest failed pairs in the mean, by dynamic programming")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Shuffle the cards and lay them face down; `new_task` means nothing here."""
        self.types[rows] = shuffled_decks(self.random, rows, self.num_decks, self.num_types)
        self.found[rows] = False
        self.pairs_found[rows] = 0
        self.view[rows] = self.num_types
        self.chosen[rows] = 0
        self.awaits_second[rows] = False

    def advance(self, actions: Array) -> Transition:
        """Turn up one card and, if it is the second, compare the pair."""
        lanes, is_second = self.every_lane, self.awaits_second
        # Only the cards chosen last are turned down: to make the whole view anew would take most of a step's time.
        rows = np.flatnonzero(~is_second)
        last = rows[:, None], self.chosen[rows]
        self.view[last] = np.where(self.found[last], self.types[last], self.num_types)
        first = self.chosen[:, 0].copy()
        was_found = self.found[lanes, actions]
        types = self.types[lanes, actions]
        self.view[lanes, actions] = types
        is_pair = is_second & ~was_found & (actions != first) & (types == self.types[lanes, first])
        paired = np.flatnonzero(is_pair)
        self.found[paired, actions[paired]] = True
        self.found[paired, first[paired]] = True
        self.pairs_found += is_pair
        self.chosen[:, 0] = np.where(is_second, first, actions)
        self.chosen[:, 1] = actions
        is_over = is_second | was_found
        self.awaits_second = ~is_over
        failures = np.where(is_over & ~is_pair, self.failure * (1 + is_second), 0.0)
        terminated = self.pairs_found * 2 == self.num_cards
        return Transition(np.where(is_pair, self.success, failures), terminated, {"is_success": terminated})

    def observe(self) -> Array:
        """Return the types of the cards in view, (B, N)."""
        return self.view.copy()

    def render_text(self, lane: int) -> str:
        """Show the cards in four rows; those face down are question marks."""
        symbols = np.array([*SYMBOLS[self.deck_type], "?"])[self.view[lane]]
        return "\n".join(" ".join(row) for row in symbols.reshape(NUM_SUITS, -1))
