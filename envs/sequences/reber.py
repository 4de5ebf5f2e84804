"""The embedded Reber grammar: read a string and tell before each symbol which ones the grammar allows.

Source: experiment 1 of S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
"""

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.teacher import TeacherTask

SYMBOLS = "BTPSXVE"

# By node what may come next and where it leads, of the inner grammar; its end is node 7.
REBER_GRAPH = (
    (("B", 1),),
    (("T", 2), ("P", 3)),
    (("S", 2), ("X", 4)),
    (("T", 3), ("V", 5)),
    (("X", 3), ("S", 6)),
    (("P", 4), ("V", 6)),
    (("E", 7),),
)
# The embedded grammar holds the inner one twice, at nodes 0 ... 7 after T and at 8 ... 15 after P.
AFTER_P, CLOSED, OVER, OPENED, NUM_NODES = 8, 16, 17, 18, 19


def list_edges() -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return by node of the embedded grammar the two equally likely ways to go on; a single way stands there twice."""
    edges = []
    for offset, first in ((0, "T"), (AFTER_P, "P")):
        for ways in REBER_GRAPH:
            shifted = [(symbol, node + offset) for symbol, node in ways]
            edges.append((shifted[0], shifted[-1]))
        edges.append(((first, CLOSED), (first, CLOSED)))
    return [*edges, (("E", OVER), ("E", OVER)), (("B", OPENED), ("B", OPENED)), (("T", 0), ("P", AFTER_P))]


EDGES = list_edges()
# By 2 node + coin: the next symbol and the next node. By node: 1 for each legal next symbol.
NEXT_SYMBOLS: IntArray = np.array([SYMBOLS.index(symbol) for ways in EDGES for symbol, _ in ways])
NEXT_NODES: IntArray = np.array([node for ways in EDGES for _, node in ways])
LEGAL: IntArray = np.eye(len(SYMBOLS), dtype=np.int64)[NEXT_SYMBOLS].reshape(NUM_NODES, 2, -1).max(axis=1)


def count_visits() -> FloatArray:
    """Return how often one string comes through each node on average, (NUM_NODES,), `OPENED` and `OVER` included."""
    moves = np.zeros((NUM_NODES, NUM_NODES))
    np.add.at(moves, (np.arange(2 * NUM_NODES) // 2, NEXT_NODES), 0.5)
    moves[OVER] = 0.0
    # visits = start + visits moves
    visits: FloatArray = np.linalg.solve(np.eye(NUM_NODES) - moves.T, np.eye(NUM_NODES)[OPENED])
    return visits


class EmbeddedReber(TeacherTask):
    """Tell which symbols may come next in a string of the embedded Reber grammar.

    A string is B, then T or P, then a string of the Reber grammar, then the same T or P as before, then E. It is read
    symbol by symbol, and after each the set of legal next symbols is asked. The Reber grammar goes from node to node,
    from 0 to 7, and where there are two ways on, each is taken half of the time:

    | node | symbol and next node |
    |---|---|
    | 0 | B 1 |
    | 1 | T 2, P 3 |
    | 2 | S 2, X 4 |
    | 3 | T 3, V 5 |
    | 4 | X 3, S 6 |
    | 5 | P 4, V 6 |
    | 6 | E 7 |

    The same symbol means different things at different nodes, and the second symbol of a string must be remembered to
    its last but one, past an inner string of any length that says nothing about it. If an episode has more
    `num_strings` than 1, the continual form, they follow each other without a sign but their E, and B is what may come
    next: a memory has to empty itself.

    ## Action Space
    MultiDiscrete([2] * 7): 1 where the symbol is said to be legal, in the order B, T, P, S, X, V, E.

    ## Observation Space
    Discrete(7): a symbol, in the same order.

    ## Rewards
    1 / M for exactly the right set, 0 for any other, where M is the mean number of sets asked for in an episode. So the
    return of perfect answers is 1 on average, and more than that in an episode that is longer than most: how long it
    will be is not known before its end. `info["target"]` is the right set.

    ## Starting State
    The B of a string was read. Strings are drawn anew for ever, not from a training set.

    ## Episode End
    Terminated by the last E. `is_success` tells whether every set was right.
    """

    memory = "whether the string began with T or P, and where in the grammar it is"
    source = "Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, experiment 1"
    state_arrays = ("nodes", "symbols", "strings_read", "all_right")
    memory_length = None  # Inner strings have any length.
    optimal_return = exact(1.0, "following the grammar and remembering T or P gets every set right")

    def __init__(self, num_envs: int, num_strings: int = 1) -> None:
        check_integer("num_strings", num_strings, 1)
        super().__init__(num_envs, Discrete(len(SYMBOLS)), MultiDiscrete([2] * len(SYMBOLS)))
        self.num_strings = num_strings
        self.nodes: IntArray = np.full(num_envs, OPENED)
        self.symbols: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.strings_read: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.all_right: BoolArray = np.ones(num_envs, dtype=np.bool_)
        # How often each node is where a set is asked for; after the last E none is.
        self.questions: FloatArray = num_strings * count_visits()
        self.questions[OVER] -= 1.0
        self.reward_of_a_set = 1.0 / float(self.questions.sum())
        # For each symbol the set that is most often right after it. Answers don't change what comes, so a policy that
        # sees the last symbol only does best if it answers each symbol with the set that follows it most often. How
        # often nodes are passed gives how often that is.
        # How often each symbol is followed by each set; a set is a number of 7 bits.
        sets = LEGAL @ (1 << np.arange(len(SYMBOLS)))
        followed = np.zeros((len(SYMBOLS), 1 << len(SYMBOLS)))
        from_nodes = np.arange(2 * NUM_NODES) // 2
        np.add.at(followed, (NEXT_SYMBOLS, sets[NEXT_NODES]), 0.5 * self.questions[from_nodes])
        # The B that an episode begins with comes from no node, and after the E that ends it nothing is asked.
        followed[SYMBOLS.index("B"), sets[OPENED]] += 1.0
        followed[SYMBOLS.index("E"), sets[OVER]] -= 1.0
        value = float(followed.max(axis=1).sum()) * self.reward_of_a_set
        self.memoryless_return = exact(value, "each symbol has one fixed answer, the set that most often follows it")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Begin after a B was read; `new_task` means nothing here."""
        self.nodes[rows] = OPENED
        self.symbols[rows] = SYMBOLS.index("B")
        self.strings_read[rows] = 0
        self.all_right[rows] = True

    def advance(self, actions: Array) -> Transition:
        """Check the sets and read the next symbol."""
        targets = LEGAL.take(self.nodes, axis=0)
        right = (actions == targets).all(axis=1)
        self.all_right &= right
        ways = 2 * self.nodes + self.random.integers(self.every_lane, 2)
        self.symbols = NEXT_SYMBOLS.take(ways)
        self.nodes = NEXT_NODES.take(ways)
        self.strings_read += self.nodes == OVER
        terminated = self.strings_read == self.num_strings
        info = {"is_success": self.all_right & terminated, "target": targets}
        return Transition(right * self.reward_of_a_set, terminated, info)

    def observe(self) -> Array:
        """Return the symbols just read, (B,)."""
        return self.symbols.copy()

    def render_text(self, lane: int) -> str:
        """Show the symbol just read and the legal next ones, none after the last E."""
        legal = np.flatnonzero(LEGAL[self.nodes[lane]] * (self.strings_read[lane] < self.num_strings))
        following = " ".join(SYMBOLS[symbol] for symbol in legal)
        string = min(int(self.strings_read[lane]) + 1, self.num_strings)
        return f"string {string} of {self.num_strings}: {SYMBOLS[self.symbols[lane]]}  next: {following}"
