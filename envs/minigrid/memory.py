"""MiniGrid's Memory: see an object in the first room, and go to the one that is like it at the end of a hallway.

Source: M. Chevalier-Boisvert et al., "Minigrid & Miniworld: Modular & Customizable Reinforcement Learning Environments
for Goal-Oriented Tasks", NeurIPS 2023. Rules, pictures, rewards and step limit are those of minigrid 3.2.0,
minigrid/envs/memory.py.

There are few layouts and few poses, so all that can be seen and done is worked out when the task is made, and a step
looks it up. Letters in shapes: B lanes, R = the lanes that a call is about, L layouts, P poses, V = `view_size`.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, ReturnReference, Transition, bound, exact, unknown
from rlstm.envs.base.checks import check_boolean, check_integer
from rlstm.envs.base.pictures import enlarge
from rlstm.envs.minigrid.layouts import (
    AT_MATCH,
    AT_OTHER,
    BALL,
    EAST,
    EMPTY,
    KEY,
    LAYOUTS_OF_A_HALLWAY,
    MOVES,
    NOWHERE,
    NUM_ACTIONS,
    SHORTEST_HALLWAY_END,
    WALL,
    draw_views,
    list_next_poses,
    list_places,
    place_objects,
)

COLOURS = np.zeros((7, 3), dtype=np.uint8)
COLOURS[[EMPTY, WALL, KEY, BALL]] = (225, 225, 225), (40, 40, 40), (70, 110, 200), (60, 170, 80)
COLOUR_AGENT, COLOUR_AHEAD = (200, 60, 50), (240, 190, 180)
SYMBOLS = {EMPTY: ".", WALL: "#", KEY: "K", BALL: "B"}
AGENTS = ">v<^"  # By direction.


class MiniGridMemory(BatchedTask):
    """See an object in the first room, walk through the hallway, and turn to the object of the same kind.

    The square maze of `size` cells a side has a room with an object, a key or a ball, and a hallway from it to the
    east. Behind the hallway's end, at x = E, is a junction with an arm to each side; behind one arm lies a key, behind
    the other one a ball. The agent sees a square of `view_size` cells a side, of which it is in the middle of the near
    side, as far as no wall hides it.

        #########
        #.....#.#
        #####.#K#     K a key, B a ball, > the agent, which looks to the east; size 9, E = 6
        #K..###.#     Here the arm to the north is right.
        #.>.....#
        #...###.#
        #####.#B#
        #.....#.#
        #########

    Exactly minigrid's `MiniGrid-Memory...-v0`, but for what is seen: its observations are dicts of the picture, the
    agent's direction, and a mission, which is always the same text. Here it is the picture alone. In the picture the
    agent always looks up, so the direction, a compass, is left to be remembered too. The first letter of its ids'
    sizes is kept: S7 has `size=7`, and so on; `view_size` is minigrid's `agent_view_size`.

    ## Action Space
    Discrete(7): 0 turn left, 1 turn right, 2 walk forward; 3 to 6 (pick up, drop, toggle, done) change nothing, but
    take a step. A walk into a wall or an object changes nothing. The wrapper `actions=0,1,2` leaves those four out.

    ## Observation Space
    Box(0, 255, (view_size, view_size, 3), uint8), indexed by x from left to right, then by y from far to near; the
    agent is at [view_size // 2, view_size - 1].

    | cell | numbers |
    |---|---|
    | not seen | 0 0 0 |
    | empty, and the agent's own | 1 0 0 |
    | wall, and all outside of the maze | 2 5 0 |
    | key | 5 1 0 |
    | ball | 6 1 0 |

    ## Rewards
    1 - 0.9 t / `max_steps` at step t for reaching the arm of the object that is like the one in the room, else 0.

    ## Starting State
    In the middle row, looking to the east, at x = 1, ..., E with equal probability: in the room or in the hallway. The
    kind of the object in the room and which one is behind the arm to the north are drawn by the toss of a coin each.
    They, and the hallway, are the task: `options={"new_task": False}` keeps them, but the start is drawn anew.

    ## Episode End
    Terminated in either arm, and truncated after `max_steps`. `is_success` tells whether it was the right arm.

    ## Arguments
    - `size`: an odd number >= 7.
    - `random_length`: whether a new task draws E from 4, ..., size - 3 with equal probability; otherwise E = size - 3.
    - `view_size`: an odd number >= 3. Pictures of 3 x 3 cells need `--image-layout hwc` or the wrapper `one_hot=11`.
    - `max_steps`: None for 5 size².
    """

    memory = "which object was in the first room"
    memory_length = None
    source = "MiniGrid, Farama; Chevalier-Boisvert et al. 2018/2023"
    supports_new_task = True
    state_arrays = ("layouts", "poses")

    def __init__(
        self,
        num_envs: int,
        size: int = 7,
        random_length: bool = False,
        view_size: int = 7,
        max_steps: int | None = None,
    ) -> None:
        check_odd("size", size, 7)
        check_boolean("random_length", random_length)
        check_odd("view_size", view_size, 3)
        if max_steps is not None:
            check_integer("max_steps", max_steps, 1)
        self.episode_steps = 5 * size**2 if max_steps is None else max_steps
        space = Box(0, 255, (view_size, view_size, 3), np.uint8)
        super().__init__(num_envs, space, Discrete(NUM_ACTIONS), self.episode_steps)
        self.size, self.random_length, self.view_size = size, random_length, view_size
        longest = size - 3
        self.hallway_ends: IntArray = np.arange(SHORTEST_HALLWAY_END if random_length else longest, longest + 1)
        self.num_layouts = LAYOUTS_OF_A_HALLWAY * len(self.hallway_ends)
        self.num_poses = 4 * len(list_places(size, longest))
        # What is seen, done and meant by layout and pose, one row after the other.
        views = np.concatenate([draw_views(size, int(end), view_size) for end in self.hallway_ends])
        self.views = views.reshape(-1, view_size, view_size, 3)
        moves = np.stack([list_next_poses(size, int(end)) for end in self.hallway_ends])
        self.next_poses: IntArray = moves.repeat(LAYOUTS_OF_A_HALLWAY, axis=0).ravel()
        self.meanings: IntArray = self._list_meanings().ravel()
        self.layouts: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.poses: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.optimal_return, self.memoryless_return = self._returns(views)

    def _list_meanings(self) -> IntArray:
        """Return what each pose means in each layout, (L, P)."""
        meanings = np.full((self.num_layouts, self.num_poses), NOWHERE)
        is_north_right = np.tile([True, False, False, True], len(self.hallway_ends))[:, None]
        meanings[:, -8:-4] = np.where(is_north_right, AT_MATCH, AT_OTHER)
        meanings[:, -4:] = np.where(is_north_right, AT_OTHER, AT_MATCH)
        return meanings

    def _returns(self, views: npt.NDArray[np.uint8]) -> tuple[ReturnReference, ReturnReference]:
        """Return the optimal and the memoryless return; `views` (L, P, V, V, 3)."""
        # The shortest way to an arm: down the row, a turn, and a step.
        values = np.zeros(len(self.hallway_ends))
        for index, end in enumerate(self.hallway_ends):
            steps = end + 3 - np.arange(1, end + 1)
            values[index] = np.where(steps <= self.episode_steps, 1 - 0.9 * steps / self.episode_steps, 0.0).mean()
        best = bound(float(values.mean()), "no way to the right arm is shorter, without any for a look at the object")
        # Whoever comes to the junction looks east, whatever was seen before. If what is in the room can't be seen from
        # there, all that a policy without memory does until it leaves again or is in an arm is independent of it. So
        # let n and s be the probabilities of ending in the north and in the south, and r that of leaving, after which
        # the same begins anew, if it does: in the end n / (1 - r) of all are in the north at most, s / (1 - r) in the
        # south, and with each being right as often as not half of the sum, n + s <= 1 - r, is right at most.
        corners = np.array([4 * end + np.arange(4) for end in self.hallway_ends])  # The junction is at x = E + 1.
        seen = views.reshape(len(corners), 2, 2, *views.shape[1:])[np.arange(len(corners))[:, None], :, :, corners]
        # Indexed by hallway, direction, object in the room, object in the north.
        is_hidden = (seen[:, :, 0] == seen[:, :, 1]).reshape(len(corners), -1).all(axis=1)
        if not is_hidden.any():
            return best, unknown(
                "the object in the room is seen from the junction too, and so some turns can be right without memory"
            )
        half = float(np.where(is_hidden, values / 2, values).mean())
        if is_hidden.all():
            return best, exact(half, "the junction doesn't tell which arm is right, so half the turns are wrong")
        return best, bound(half, "half the turns are wrong where the object in the room is not seen from the junction")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw a start; a new task is a new layout."""
        drawn = rows[new_task]
        self.layouts[drawn] = self.random.integers(drawn, self.num_layouts)
        ends = self.hallway_ends[self.layouts[rows] // LAYOUTS_OF_A_HALLWAY]
        # The places of the middle row are the first ones.
        places = (self.random.uniform(rows) * ends).astype(np.int64)
        self.poses[rows] = 4 * places + EAST

    def advance(self, actions: Array) -> Transition:
        """Turn or walk; pay for the right arm."""
        self.poses = self.next_poses.take((NUM_ACTIONS * self.layouts + actions) * self.num_poses + self.poses)
        meanings = self.meanings.take(self.layouts * self.num_poses + self.poses)
        is_success = meanings == AT_MATCH
        rewards = is_success * (1.0 - 0.9 * (self.elapsed_steps / self.episode_steps))
        return Transition(rewards, meanings != NOWHERE, {"is_success": is_success})

    def observe(self) -> Array:
        """Look up the pictures."""
        return self.views.take(self.layouts * self.num_poses + self.poses, axis=0)

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return place, distance to the junction, and direction, and on which side the right arm is, (B, 8)."""
        places, directions = np.divmod(self.poses, 4)
        ends = self.hallway_ends[self.layouts // LAYOUTS_OF_A_HALLWAY]
        # The last two places, the arms, hang on the hallway.
        x, y = list_places(self.size, self.size - 3)[places].T
        x = np.where(places >= self.num_poses // 4 - 2, ends + 1, x)
        north_arm = self.layouts * self.num_poses + self.num_poses - 8
        side: FloatArray = np.where(self.meanings[north_arm] == AT_MATCH, -1.0, 1.0)
        columns = [x, ends + 1 - x, y - self.size // 2, *(directions == np.arange(4)[:, None]), side]
        return np.stack(columns, axis=1).astype(np.float32)

    def _draw_cells(self, lane: int) -> tuple[IntArray, IntArray, int]:
        """Return what is where (size, size), where the agent is (2,), and its direction."""
        hallway, kind = divmod(int(self.layouts[lane]), LAYOUTS_OF_A_HALLWAY)
        place, direction = divmod(int(self.poses[lane]), 4)
        end = int(self.hallway_ends[hallway])
        return place_objects(self.size, end)[kind], list_places(self.size, end)[place], direction

    def render_text(self, lane: int) -> str:
        """Show the maze from above: K keys, B balls, and the agent, which points to where it looks."""
        cells, (x, y), direction = self._draw_cells(lane)
        rows = [[SYMBOLS[int(cell)] for cell in row] for row in cells.T]
        rows[y][x] = AGENTS[direction]
        status = f"step {self.elapsed_steps[lane]} of {self.episode_steps}"
        return "\n".join([*("".join(row) for row in rows), status])

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the maze from above, one square per cell: keys blue, balls green, the cell that is looked at pale."""
        cells, place, direction = self._draw_cells(lane)
        squares = COLOURS[cells.T]
        ahead = place + MOVES[direction]
        if cells[tuple(ahead)] == EMPTY:
            squares[ahead[1], ahead[0]] = COLOUR_AHEAD
        squares[place[1], place[0]] = COLOUR_AGENT
        return enlarge(squares)


def check_odd(name: str, value: object, low: int) -> None:
    """Raise ValueError unless `value` is an odd integer >= low."""
    check_integer(name, value, low)
    if isinstance(value, int | np.integer) and value % 2 == 0:
        raise ValueError(f"{name} must be an odd number >= {low}, but got {value!r}.")
