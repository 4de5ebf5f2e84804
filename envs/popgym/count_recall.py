"""CountRecall: how many cards of this type were dealt so far?"""

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.cards import CARDS_PER_DECK, POPGYM, SYMBOLS, shuffled_decks
from rlstm.envs.base.checks import check_choice, check_integer


class CountRecall(BatchedTask):
    """Count the cards of every type, and tell the count of the type asked for.

    N = 52 `num_decks` cards of K types are shuffled and dealt without replacement, M = N / K of each type. A second
    deck of the same kind, shuffled apart, says of which type the count is asked; one card of each is in view at the
    start. So all K counts must be kept up to date; the order doesn't matter. popgym's Easy, Medium and Hard are 1 deck
    of colours, 2 of suits, 4 of ranks.

    ## Action Space
    Discrete(M + 1): how many cards of the type asked for were dealt, the one in view included.

    ## Observation Space
    MultiDiscrete([K, K]): the type just dealt, and the type asked for.

    ## Rewards
    1 / (N - 1) for a right answer, -1 / (N - 1) for a wrong one, however near. popgym has an argument `error_clamp`,
    which has no effect there: it is left out.

    ## Episode End
    Terminated when the last card is dealt, after N - 1 steps; that card is seen but nothing is asked any more.
    `is_success` tells whether every answer was right.

    ## Arguments
    - `num_decks`: 1 or more.
    - `deck_type`: "colors" (K = 2), "suits" (4) or "ranks" (13).
    """

    memory = "how many cards of each type were dealt"
    source = POPGYM
    state_arrays = ("dealt", "queried", "counts", "all_right")
    optimal_return = exact(1.0, "counting makes every one of the N - 1 answers right")

    def __init__(self, num_envs: int, num_decks: int = 1, deck_type: str = "colors") -> None:
        check_integer("num_decks", num_decks, 1)
        check_choice("deck_type", deck_type, tuple(SYMBOLS))
        self.num_decks, self.deck_type = num_decks, deck_type
        self.num_types = len(SYMBOLS[deck_type])
        self.num_cards = CARDS_PER_DECK * num_decks
        self.cards_per_type = self.num_cards // self.num_types
        super().__init__(num_envs, MultiDiscrete([self.num_types] * 2), Discrete(self.cards_per_type + 1))
        self.reward_scale = 1.0 / (self.num_cards - 1)
        # Types in the order of dealing, so elapsed_steps point at the cards in view.
        self.dealt: IntArray = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.queried: IntArray = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.counts: IntArray = np.zeros((num_envs, self.num_types), dtype=np.int64)
        self.all_right: BoolArray = np.ones(num_envs, dtype=np.bool_)
        # Where the lanes begin in the flat arrays of cards and of counts.
        self.card_starts = np.arange(num_envs) * self.num_cards
        self.count_starts = np.arange(num_envs) * self.num_types
        self.memory_length = self.num_cards - 2  # The first card still counts at the last answer.
        # Always the same count, such as 1. Without memory the answer depends only on the two types in view, and by
        # symmetry on whether they are equal (probability 1/K). Think of the M cards of the asked type as marks among
        # the N cards in order. If the card in view is of another type, M marks among the other N - 1 cards leave M + 1
        # gaps of the same mean length, so that over a deck each count 0, ..., M holds for N / (M + 1) steps in the
        # mean; if it is of the asked type, M - 1 marks leave M gaps, and each count 1, ..., M holds for N / M steps.
        # The last card asks nothing, which only takes from count M. Always answering 1 is as good as any other, and
        # right N / (K M) + (1 - 1/K) N / (M + 1) = 1 + (K - 1) M / (M + 1) times.
        right = 1.0 + (self.num_types - 1) * self.cards_per_type / (self.cards_per_type + 1)
        value = 2.0 * right / (self.num_cards - 1) - 1.0
        self.memoryless_return = exact(value, "over an episode no count is more frequent than 1")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Shuffle the decks and count the first card; `new_task` means nothing here."""
        self.dealt[rows] = shuffled_decks(self.random, rows, self.num_decks, self.num_types)
        self.queried[rows] = shuffled_decks(self.random, rows, self.num_decks, self.num_types)
        self.counts[rows] = 0
        self.counts[rows, self.dealt[rows, 0]] = 1
        self.all_right[rows] = True

    def advance(self, actions: Array) -> Transition:
        """Check the answers, then deal and count the next card."""
        places = self.card_starts + self.elapsed_steps
        asked = self.queried.take(places - 1)  # The base class has counted this step already.
        right = self.counts.take(self.count_starts + asked) == actions
        self.all_right &= right
        self.counts.reshape(-1)[self.count_starts + self.dealt.take(places)] += 1
        rewards = np.where(right, self.reward_scale, -self.reward_scale)
        terminated = self.elapsed_steps == self.num_cards - 1
        return Transition(rewards, terminated, {"is_success": self.all_right & terminated})

    def observe(self) -> Array:
        """Return the types dealt and asked for, (B, 2)."""
        places = self.card_starts + self.elapsed_steps
        observations = np.empty((self.num_envs, 2), dtype=np.int64)
        observations[:, 0], observations[:, 1] = self.dealt.take(places), self.queried.take(places)
        return observations

    def render_text(self, lane: int) -> str:
        """Show the card dealt, the type asked for, in brackets the right answer, and below all counts."""
        newest = int(self.elapsed_steps[lane])
        dealt, asked = self.dealt[lane, newest], self.queried[lane, newest]
        letters = SYMBOLS[self.deck_type]
        seen = " ".join(f"{count}x{letter}" for letter, count in zip(letters, self.counts[lane], strict=True))
        question = f"{letters[dealt]}; how many {letters[asked]}? [{self.counts[lane, asked]}]"
        return f"card {newest + 1} of {self.num_cards}: {question}\nseen: {seen}"
