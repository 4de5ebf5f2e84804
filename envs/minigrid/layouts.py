"""The mazes of MiniGrid's Memory: what is where, what is seen from every pose, and where every action leads.

Source: M. Chevalier-Boisvert et al., "Minigrid & Miniworld: Modular & Customizable Reinforcement Learning Environments
for Goal-Oriented Tasks", NeurIPS 2023. Rules, pictures, rewards and step limit are those of minigrid 3.2.0,
minigrid/envs/memory.py.

Letters in shapes: P poses, V = `view_size`.
"""

import functools

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray, IntArray

NUM_ACTIONS = 7
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(NUM_ACTIONS)

# Directions, clockwise, as (x, y); y grows to the south.
EAST, SOUTH, WEST, NORTH = range(4)
MOVES: IntArray = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])

# MiniGrid's numbers of what is in a cell, and what a picture shows of each: object, colour (grey 5, green 1), state.
UNSEEN, EMPTY, WALL, KEY, BALL = 0, 1, 2, 5, 6
PIXELS = np.zeros((7, 3), dtype=np.uint8)
PIXELS[[EMPTY, WALL, KEY, BALL]] = (1, 0, 0), (2, 5, 0), (5, 1, 0), (6, 1, 0)

ROOM_END = 3  # Last column of the first room.
SHORTEST_HALLWAY_END = 4
LAYOUTS_OF_A_HALLWAY = 4  # Two kinds of object in the room, times two orders of the objects at the end.
NOWHERE, AT_MATCH, AT_OTHER = range(3)  # What a pose means for the episode.


def layout_number(hallway: int, object_in_room: int, object_in_north: int) -> int:
    """Return the number of a layout: the `hallway`-th length, and which objects (KEY or BALL) are where."""
    return LAYOUTS_OF_A_HALLWAY * hallway + 2 * int(object_in_room == BALL) + int(object_in_north == BALL)


def place_objects(size: int, hallway_end: int) -> IntArray:
    """Return what is where in the four layouts with this hallway, (4, size, size), indexed by x, then y."""
    middle, arms = size // 2, hallway_end + 1
    cells = np.full((LAYOUTS_OF_A_HALLWAY, size, size), WALL)
    # Outer places that no agent sees, as walls hide them, are nevertheless what they are in MiniGrid.
    cells[:, 1:-1, 1:-1] = EMPTY
    cells[:, 1:5, [middle - 2, middle + 2]] = WALL
    cells[:, 4:hallway_end, [middle - 1, middle + 1]] = WALL
    cells[:, [hallway_end, hallway_end + 2]] = WALL
    cells[:, hallway_end, middle] = EMPTY
    kinds = np.array([KEY, BALL])
    cells[:, 1, middle - 1] = kinds[[0, 0, 1, 1]]
    cells[:, arms, middle - 2] = kinds[[0, 1, 0, 1]]
    cells[:, arms, middle + 2] = kinds[[1, 0, 1, 0]]
    return cells


def list_places(size: int, hallway_end: int) -> IntArray:
    """Return the places where an agent can be, (size + 5, 2) as (x, y), numbered alike for all hallways.

    First the row in the middle, x = 1, 2, ..., size - 2, of which a short hallway leaves the last ones out; then the
    other five of the room; then the arm to the north and the arm to the south.
    """
    middle = size // 2
    row = [(x, middle) for x in range(1, size - 1)]
    room = [(x, y) for y in (middle - 1, middle + 1) for x in range(1, ROOM_END + 1)][1:]  # The first holds the object.
    return np.array([*row, *room, (hallway_end + 1, middle - 1), (hallway_end + 1, middle + 1)])


def find_visible(is_wall: BoolArray) -> BoolArray:
    """Return which cells of views (..., V, V), indexed by x, then y, are seen from the middle of the last row.

    Light goes through all but walls. Row by row away from the agent it spreads to both sides: a lit cell that lets it
    through lights the next one, and of the row ahead the cells in front of both.
    """
    width = is_wall.shape[-1]
    lit = np.zeros_like(is_wall)
    lit[..., width // 2, width - 1] = True
    for row in reversed(range(width)):
        ahead = max(row - 1, 0)  # Nothing is ahead of row 0: there the row itself, where it lights nothing more.
        for columns, side in ((range(width - 1), 1), (range(width - 1, 0, -1), -1)):
            for column in columns:
                shines = lit[..., column, row] & ~is_wall[..., column, row]
                lit[..., column + side, row] |= shines
                lit[..., column, ahead] |= shines
                lit[..., column + side, ahead] |= shines
    return lit


@functools.lru_cache(maxsize=256)
def draw_views(size: int, hallway_end: int, view_size: int) -> npt.NDArray[np.uint8]:
    """Return what is seen in the four layouts with this hallway from every pose, (4, P, V, V, 3)."""
    places, half = list_places(size, hallway_end), view_size // 2
    ahead = view_size - 1 - np.arange(view_size)  # (V,) by y
    aside = np.arange(view_size) - half  # (V,) by x
    forward, right = MOVES, np.roll(MOVES, -1, axis=0)
    # The place that each cell of a view shows, (P, V, V, 2), in a grid with walls around it.
    shift = aside[:, None, None] * right[:, None, None] + ahead[:, None] * forward[:, None, None]
    shown = (places[:, None, None, None] + shift).reshape(-1, view_size, view_size, 2) + view_size
    margin = ((0, 0), (view_size, view_size), (view_size, view_size))
    grid = np.pad(place_objects(size, hallway_end), margin, constant_values=WALL)
    objects = grid[:, shown[..., 0], shown[..., 1]]
    views: npt.NDArray[np.uint8] = PIXELS[np.where(find_visible(objects == WALL), objects, UNSEEN)]
    views.flags.writeable = False
    return views


def list_next_poses(size: int, hallway_end: int) -> IntArray:
    """Return the next pose by action and pose, (7, P); a pose is 4 * place + direction."""
    places = list_places(size, hallway_end)
    # The number of each place, -1 where none can go. A short hallway has no places behind the junction.
    numbers = np.full((size, size), -1)
    is_there = (places[:, 0] <= hallway_end + 1) | (places[:, 1] != size // 2)
    numbers[tuple(places[is_there].T)] = np.flatnonzero(is_there)
    poses = np.arange(4 * len(places))
    place, direction = np.divmod(poses, 4)
    there = places[place] + MOVES[direction]
    ahead = numbers[there[:, 0], there[:, 1]]
    next_poses = np.tile(poses, (NUM_ACTIONS, 1))
    next_poses[LEFT] = 4 * place + (direction - 1) % 4
    next_poses[RIGHT] = 4 * place + (direction + 1) % 4
    next_poses[FORWARD] = np.where(ahead >= 0, 4 * ahead + direction, poses)
    return next_poses
