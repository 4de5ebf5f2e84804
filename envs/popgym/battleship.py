"""Battleship: sink hidden ships by shots at the cells of a board, told only of hit or miss.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, N = cells of the board, P = placements of a
ship, that is its orientations and places.
"""

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, unknown
from rlstm.envs.base.checks import check_integer

UNKNOWN_WATER, UNKNOWN_SHIP, MISSED, HIT = range(4)
LETTERS = np.array([".", "o", "-", "X"])


class Battleship(BatchedTask):
    """Shoot at the cells of a board until all ships are sunk.

    Ships lie on a square board of N = `board_size`^2 cells, in rows or columns, and don't overlap; they may touch. The
    observation tells hit or miss but not where the shot went, so a policy must remember its shots and their outcomes,
    not to shoot at a cell twice and to follow a ship that it has found. popgym's Easy, Medium and Hard have boards of
    8, 10 and 12.

    ## Action Space
    MultiDiscrete([board_size, board_size]): row and column of the shot.

    ## Observation Space
    Discrete(2): 1 if the last shot hit a ship's cell that was not hit before, 0 otherwise and at the start.

    ## Rewards
    1 / n for a new hit, -1 / (N - n) for any other shot, where n is the number of cells with ships. So each cell shot
    at once makes 0.

    ## Starting State
    The ships are placed one after the other, each uniformly among the placements that are still free. The board is the
    task: `options={"new_task": False}` keeps it.

    ## Episode End
    Terminated when all ships are sunk, which is `is_success`. Truncated after N shots.

    ## Arguments
    - `board_size`: cells along a side, 2 or more.
    - `ship_sizes`: the number of cells of each ship, from 1 to `board_size`, in the order of placing. They must be so
      few that space is left for the last one however the others lie.
    """

    memory = "which cells were shot at, and where the hits were"
    source = "Morad et al., POPGym, ICLR 2023"
    supports_new_task = True
    state_arrays = ("ships", "shots", "num_hits", "last_hit")
    memory_length = None  # Every shot matters until the end.
    optimal_return = bound(1.0, "a hit with every shot; where the ships are must be found out")
    memoryless_return = unknown("the best pair of distributions over cells, after a hit and after a miss, isn't known")

    def __init__(
        self, num_envs: int, board_size: int = 8, ship_sizes: list[int] | tuple[int, ...] = (2, 3, 3, 4)
    ) -> None:
        check_integer("board_size", board_size, 2)
        _check_ships(board_size, ship_sizes)
        num_cells = board_size**2
        super().__init__(num_envs, Discrete(2), MultiDiscrete([board_size, board_size]), num_cells)
        self.board_size = board_size
        self.ship_sizes = tuple(ship_sizes)
        self.num_ship_cells = sum(ship_sizes)
        self.reward_hit, self.reward_miss = 1.0 / self.num_ship_cells, -1.0 / (num_cells - self.num_ship_cells)
        self.placements = {size: _cells_of_placements(board_size, size) for size in self.ship_sizes}
        self.first_cells = np.arange(num_envs) * num_cells  # Of each lane, where (B, N) arrays are seen as (B N,).
        self.ships: BoolArray = np.zeros((num_envs, num_cells), dtype=np.bool_)
        self.shots: BoolArray = np.zeros((num_envs, num_cells), dtype=np.bool_)
        self.num_hits: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.last_hit: IntArray = np.zeros(num_envs, dtype=np.int64)  # 0 or 1, of the last shot

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Forget all shots; a new task is a new board."""
        self.shots[rows] = False
        self.num_hits[rows] = 0
        self.last_hit[rows] = 0
        drawn = rows[new_task]
        if drawn.size > 0:
            self.ships[drawn] = self._draw_ships(drawn)

    def _draw_ships(self, rows: IntArray) -> BoolArray:
        """Draw boards with all ships for the lanes `rows`, (R, N)."""
        size = self.board_size
        boards = np.zeros((rows.size, size**2), dtype=np.bool_)
        for ship_size in self.ship_sizes:
            num_free = _free_placements(boards.reshape(-1, size, size), ship_size).cumsum(axis=1)  # (R, P)
            chosen = (self.random.uniform(rows) * num_free[:, -1]).astype(np.int64)
            # The first placement at which more than `chosen` free ones are counted is the free one of this number.
            placement = (num_free > chosen[:, None]).argmax(axis=1)
            boards[np.arange(rows.size)[:, None], self.placements[ship_size][placement]] = True
        return boards

    def advance(self, actions: Array) -> Transition:
        """Shoot."""
        cells = self.first_cells + actions[:, 0] * self.board_size + actions[:, 1]
        hits = self.ships.take(cells) & ~self.shots.take(cells)
        self.shots.put(cells, True)
        self.num_hits += hits
        self.last_hit = hits.astype(np.int64)
        sunk = self.num_hits == self.num_ship_cells
        return Transition(np.where(hits, self.reward_hit, self.reward_miss), sunk, {"is_success": sunk.copy()})

    def observe(self) -> Array:
        """Return whether the last shots were new hits, (B,)."""
        return self.last_hit.copy()

    def render_text(self, lane: int) -> str:
        """Show the board: . water, o ship, - shot at water, X hit."""
        looks = LETTERS[UNKNOWN_SHIP * self.ships[lane] + MISSED * self.shots[lane]]
        rows = [" ".join(row) for row in looks.reshape(self.board_size, self.board_size)]
        return "\n".join([*rows, f"step {self.elapsed_steps[lane]}: last shot hit {self.last_hit[lane]}"])


def _check_ships(board_size: int, ship_sizes: object) -> None:
    """Raise ValueError unless there is space for all ships, however the earlier ones lie, and for some water."""
    if not isinstance(ship_sizes, list | tuple) or not ship_sizes:
        raise ValueError(f"ship_sizes must be a list or tuple of one size or more, but got {ship_sizes!r}.")
    for number, size in enumerate(ship_sizes):
        check_integer("ship_sizes of each ship", size, 1)
        if size > board_size:
            raise ValueError(f"ship_sizes must be at most board_size {board_size}, but got {size} in {ship_sizes!r}.")
        # In each line a ship of this size has so many places. An earlier ship touches at most `earlier` + size - 1 of
        # those in its own line, and at most `size` of those in each of the `earlier` lines that cross it.
        places = board_size - size + 1
        blocked = sum(min(earlier + size - 1, places) + earlier * min(size, places) for earlier in ship_sizes[:number])
        if blocked >= 2 * board_size * places:
            raise ValueError(
                f"ship_sizes must leave space for every ship however the earlier ones lie, but on a board of "
                f"{board_size} x {board_size} cells ship {number + 1} of {ship_sizes!r} may find none: use fewer or "
                "smaller ships."
            )
    if sum(ship_sizes) >= board_size**2:
        raise ValueError(
            f"ship_sizes must cover fewer than the {board_size**2} cells of board_size {board_size}, but "
            f"{ship_sizes!r} cover {sum(ship_sizes)}."
        )


def _cells_of_placements(board_size: int, ship_size: int) -> IntArray:
    """Return the cells of each placement in the order of `_free_placements`, (P, ship_size)."""
    cells = np.arange(board_size**2).reshape(board_size, board_size)
    places = board_size - ship_size + 1
    in_rows = [cells[:, offset : offset + places].ravel() for offset in range(ship_size)]
    in_columns = [cells[offset : offset + places].ravel() for offset in range(ship_size)]
    return np.concatenate([np.stack(in_rows, axis=1), np.stack(in_columns, axis=1)])


def _free_placements(boards: BoolArray, ship_size: int) -> BoolArray:
    """Return whether a ship fits: first places in rows, then those in columns, (R, P), of `boards` (R, size, size)."""
    places = boards.shape[1] - ship_size + 1
    in_rows, in_columns = boards[:, :, :places].copy(), boards[:, :places].copy()
    for offset in range(1, ship_size):
        in_rows |= boards[:, :, offset : offset + places]
        in_columns |= boards[:, offset : offset + places]
    return ~np.concatenate([in_rows.reshape(len(boards), -1), in_columns.reshape(len(boards), -1)], axis=1)
