"""Minesweeper: open all cells without a mine, told only how many mines lie around the cell just opened.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, N = cells of the board.
"""

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, unknown
from rlstm.envs.base.checks import check_integer


class Minesweeper(BatchedTask):
    """Open the cells of a board one by one, but none with a mine.

    `num_mines` of the N = `board_size`^2 cells hide a mine, L = N - `num_mines` are safe. Opening a cell shows how many
    mines are there and in the up to 8 cells around. The number isn't kept in view, nor is it shown which cell it
    belongs to, so a policy must remember its actions and all numbers, to conclude which cells are safe and not to open
    a cell twice. popgym's Easy, Medium and Hard are (board_size, num_mines) = (4, 2), (6, 6), (8, 10).

    ## Action Space
    MultiDiscrete([board_size, board_size]): row and column of the cell to open.

    ## Observation Space
    Discrete(min(num_mines + 1, 10)): the number of mines in and around the cell just opened, 0 at the start.

    ## Rewards
    | the cell | reward |
    |---|---|
    | is safe and was closed | 1 / L |
    | was already open | -1/2 / (L - 2) |
    | has a mine | -1/2 - 1 / L |

    ## Starting State
    All cells closed, mines in cells drawn uniformly without replacement. They are the task:
    `options={"new_task": False}` keeps them.

    ## Episode End
    Terminated when a mine is opened, or when all safe cells are, which is `is_success`. Truncated after L steps. If the
    last safe cell is opened at step L, the episode is both terminated and truncated, where popgym says terminated only.

    ## Arguments
    - `board_size`: cells along a side, 2 or more.
    - `num_mines`: from 1 to N - 3.
    """

    memory = "which cells were opened and the numbers seen there"
    source = "Morad et al., POPGym, ICLR 2023"
    supports_new_task = True
    state_arrays = ("mines", "opened", "num_opened", "counts")
    memory_length = None  # Every number may matter until the end.
    memoryless_return = unknown("the best distributions over cells, one for each number seen, aren't known")

    def __init__(self, num_envs: int, board_size: int = 4, num_mines: int = 2) -> None:
        check_integer("board_size", board_size, 2)
        check_integer("num_mines", num_mines, 1)
        num_cells = board_size**2
        # Rewards divide by L - 2.
        if num_mines > num_cells - 3:
            raise ValueError(
                f"num_mines must be at most {num_cells - 3} on the {num_cells} cells of board_size {board_size}, but "
                f"got {num_mines!r}."
            )
        self.num_safe = num_cells - num_mines
        super().__init__(
            num_envs, Discrete(min(num_mines + 1, 10)), MultiDiscrete([board_size, board_size]), self.num_safe
        )
        self.board_size, self.num_mines = board_size, num_mines
        # By 0 new and safe, 1 already open, 2 mine.
        self.rewards = np.array([1.0 / self.num_safe, -0.5 / (self.num_safe - 2), -0.5 - 1.0 / self.num_safe])
        # Whether a cell is another one or touches it, also by a corner, (N, N).
        rows, columns = np.divmod(np.arange(num_cells), board_size)
        self.neighbourhoods = (np.abs(rows[:, None] - rows) <= 1) & (np.abs(columns[:, None] - columns) <= 1)
        self.first_cells = np.arange(num_envs) * num_cells  # Of each lane, where (B, N) arrays are seen as (B N,).
        self.mines: BoolArray = np.zeros((num_envs, num_cells), dtype=np.bool_)
        self.opened: BoolArray = np.zeros((num_envs, num_cells), dtype=np.bool_)  # Safe cells only.
        self.num_opened: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.counts: IntArray = np.zeros(num_envs, dtype=np.int64)  # Mines in and around the cell just opened.
        # At best all goes well after the first cell, which must be opened without knowing anything. It has a mine with
        # probability p = num_mines / N. So the return is at most (1 - p) - p (1/2 + 1 / L).
        p = self.num_mines / (self.num_mines + self.num_safe)
        value = 1.0 - p + p * float(self.rewards[2])
        self.optimal_return = bound(value, "the first cell is opened blindly, and no more than L safe ones after it")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Close all cells; a new task is new mines."""
        self.opened[rows] = False
        self.num_opened[rows] = 0
        self.counts[rows] = 0
        drawn = rows[new_task]
        # The cells with the smallest of N random words are a uniform choice of cells.
        words = self.random.words(drawn, (self.mines.shape[1],))
        chosen = words.argpartition(self.num_mines - 1, axis=1)[:, : self.num_mines]
        self.mines[drawn] = False
        self.mines[drawn[:, None], chosen] = True

    def advance(self, actions: Array) -> Transition:
        """Open cells."""
        cells = actions[:, 0] * self.board_size + actions[:, 1]
        flat_cells = self.first_cells + cells
        explodes, was_open = self.mines.take(flat_cells), self.opened.take(flat_cells)
        is_new = ~(explodes | was_open)
        self.opened.put(flat_cells, ~explodes)
        self.num_opened += is_new
        self.counts = (self.mines & self.neighbourhoods.take(cells, axis=0)).sum(axis=1)
        cleared = self.num_opened == self.num_safe
        return Transition(self.rewards.take(was_open + 2 * explodes), explodes | cleared, {"is_success": cleared})

    def observe(self) -> Array:
        """Return the mines in and around the cells just opened, (B,)."""
        return self.counts.copy()

    def render_text(self, lane: int) -> str:
        """Show the board: numbers in open cells, . closed, * mine."""
        numbers = self.neighbourhoods.astype(np.int64) @ self.mines[lane]
        looks = np.where(self.opened[lane], numbers.astype(str), np.where(self.mines[lane], "*", "."))
        rows = [" ".join(row) for row in looks.reshape(self.board_size, self.board_size)]
        return "\n".join([*rows, f"step {self.elapsed_steps[lane]}: last number {self.counts[lane]}"])
