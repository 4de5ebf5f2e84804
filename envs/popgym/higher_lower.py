"""HigherLower: will the next card be higher or lower than this one?"""

from functools import lru_cache

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.cards import CARDS_PER_DECK, NUM_RANKS, POPGYM, SYMBOLS, shuffled_decks
from rlstm.envs.base.checks import check_integer

HIGHER, LOWER = range(2)


class HigherLower(BatchedTask):
    """Guess whether the next card is higher or lower than the present one; counting cards makes guesses better.

    N = 52 `num_decks` cards, of 1 deck or more, are shuffled and dealt without replacement, one at the start. The
    present card alone says much: after a two, higher is the guess. Counting what was dealt says more, above all near
    the end, when few cards are left. popgym's Easy, Medium and Hard are num_decks = 1, 2, 3.

    ## Action Space
    Discrete(2): 0 higher, 1 lower.

    ## Observation Space
    Discrete(13): the rank of the card just dealt, ace (0), 2, ..., 10, jack, queen, king (12).

    ## Rewards
    1 / N for a right guess, -1 / N for a wrong one, 0 if the next card is of the same rank.

    ## Episode End
    Terminated when the last card is dealt, after N - 1 steps. `is_success` tells whether more guesses were right than
    wrong.
    """

    memory = "how many cards of each rank were dealt"
    source = POPGYM
    state_arrays = ("ranks", "right_minus_wrong")
    # Higher below the middle rank, lower above it. The present and the next card are any two cards of the deck. Of the
    # N - 1 others, N (12 - r) / 13 are higher than rank r and N r / 13 lower, so the best guess earns N |12 - 2 r| / 13
    # / (N - 1) / N in the mean. Over the N - 1 guesses, and over the ranks, where |12 - 2 r| has the mean 84/13, that
    # is 84/169 for any number of decks.
    memoryless_return = exact(84 / 169, "low cards are followed by higher ones, high cards by lower ones")

    def __init__(self, num_envs: int, num_decks: int = 1) -> None:
        check_integer("num_decks", num_decks, 1)
        super().__init__(num_envs, Discrete(NUM_RANKS), Discrete(2))
        self.num_decks = num_decks
        self.num_cards = CARDS_PER_DECK * num_decks
        self.reward_scale = 1.0 / self.num_cards
        # Ranks in the order of dealing, so elapsed_steps point at the card just dealt.
        self.ranks: IntArray = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.row_starts = np.arange(num_envs) * self.num_cards  # Where the lanes begin in the flat array of ranks.
        self.right_minus_wrong: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.memory_length = self.num_cards - 2  # The first card still counts at the last guess.
        value = _counting_return(num_decks)
        self.optimal_return = exact(value, "the mean over all decks of guessing with all cards counted")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Shuffle the decks; `new_task` means nothing here."""
        self.ranks[rows] = shuffled_decks(self.random, rows, self.num_decks, NUM_RANKS)
        self.right_minus_wrong[rows] = 0

    def advance(self, actions: Array) -> Transition:
        """Deal the next card and check the guess."""
        places = self.row_starts + self.elapsed_steps
        rises = np.sign(self.ranks.take(places) - self.ranks.take(places - 1))
        points = rises * (1 - 2 * actions)  # 1 right, -1 wrong, 0 neither.
        self.right_minus_wrong += points
        terminated = self.elapsed_steps == self.num_cards - 1
        return Transition(points * self.reward_scale, terminated, {"is_success": self.right_minus_wrong > 0})

    def observe(self) -> Array:
        """Return the ranks of the cards just dealt, (B,)."""
        return self.ranks.take(self.row_starts + self.elapsed_steps)

    def render_text(self, lane: int) -> str:
        """Show the present card and the score, and how many cards of each rank are to come."""
        newest = int(self.elapsed_steps[lane])
        letter = SYMBOLS["ranks"][self.ranks[lane, newest]]
        to_come = np.bincount(self.ranks[lane, newest + 1 :], minlength=NUM_RANKS)
        rest = " ".join(f"{count}x{rank}" for rank, count in zip(SYMBOLS["ranks"], to_come, strict=True))
        return f"card {newest + 1} of {self.num_cards}: {letter}, score {self.right_minus_wrong[lane]}\nto come: {rest}"


@lru_cache
def _counting_return(num_decks: int) -> float:
    """Return the mean return of a player who counts the cards.

    Actions don't change what is dealt, so the best guess is what most of the R cards to come are. With H of them
    higher and L lower than the present card, it earns |H - L| / (R N) in the mean. By symmetry the cards to come are
    any R of the other N - 1, of which those of another rank number D = 48 `num_decks`. So

        return = 1/N  mean over ranks r of  sum_S w(S) E_r|2 H - S|,   w(S) = sum_R P(S | R) / R,  R = 1, ..., N - 1,

    with S = H + L of a hypergeometric distribution (R of N - 1, D of them different), and H given S too (S of D, of
    which N (12 - r) / 13 are higher).
    """
    num_cards = CARDS_PER_DECK * num_decks
    per_rank = num_cards // NUM_RANKS
    different = num_cards - per_rank
    unequal = np.arange(different + 1)[:, None]
    to_come = np.arange(1, num_cards)[None, :]
    weights = (_hypergeometric(num_cards - 1, different, to_come, unequal) / to_come).sum(axis=1)
    total = 0.0
    for rank in range(NUM_RANKS):
        higher = np.arange(per_rank * (NUM_RANKS - 1 - rank) + 1)[None, :]
        odds = _hypergeometric(different, higher.size - 1, unequal, higher)
        total += float(weights @ (odds * np.abs(2 * higher - unequal)).sum(axis=1))
    return total / NUM_RANKS / num_cards


def _hypergeometric(population: int, special: int, draws: IntArray, hits: IntArray) -> FloatArray:
    """Return P(`hits` special ones among `draws` of the population), broadcast; 0 where that is impossible."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, population + 1)))])

    def log_choose(total: int | IntArray, chosen: IntArray) -> FloatArray:
        # Impossible counts are replaced by possible ones here and masked below.
        low = np.clip(chosen, 0, total)
        return np.asarray(log_factorials[total] - log_factorials[low] - log_factorials[total - low], dtype=np.float64)

    ordinary = population - special
    logarithm = log_choose(special, hits) + log_choose(ordinary, draws - hits) - log_choose(population, draws)
    possible = (hits <= np.minimum(draws, special)) & (draws - hits >= 0) & (draws - hits <= ordinary)
    return np.where(possible, np.exp(logarithm), 0.0)
