"""The picture of a text, which is the image of every task that draws none of its own."""

import numpy as np
import pytest

from rlstm.envs import ENVS
from rlstm.envs.base.batched import SingleEnv
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.pictures import BLOCK, COLOURS, COLUMNS, FONT, GLYPHS, INK, PAPER, POINT, ROWS, draw_text
from rlstm.envs.popgym.minesweeper import Minesweeper


def cell(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """The points (5, 3, 3) of a character."""
    points = image[::POINT, ::POINT]
    return points[6 * row : 6 * row + 5, 4 * column : 4 * column + 3]


def test_every_character_is_a_glyph_in_its_place_and_colour() -> None:
    image = draw_text("a#\nA@")
    assert image.shape == (6 * ROWS * POINT, 4 * COLUMNS * POINT, 3)
    assert image.dtype == np.uint8
    letter = [[0, 1, 0], [1, 0, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1]]
    assert ((cell(image, 0, 0) == INK).all(axis=2) == letter).all()
    assert np.array_equal(cell(image, 1, 0), cell(image, 0, 0))
    assert (cell(image, 0, 1)[BLOCK] == COLOURS["#"]).all()
    assert set(map(tuple, cell(image, 1, 1).reshape(-1, 3).tolist())) == {COLOURS["@"], PAPER}
    assert (cell(image, 0, 2) == PAPER).all()


def test_long_lines_go_on_below_and_what_finds_no_room_is_left_out() -> None:
    image = draw_text("." * COLUMNS + "@\nG")
    assert (cell(image, 1, 0) == COLOURS["@"]).any()
    assert (cell(image, 2, 0) != PAPER).any()
    assert np.array_equal(draw_text("G\n" * ROWS + "@"), draw_text("G\n" * ROWS))


def test_glyphs_differ_and_there_is_one_for_all_that_our_texts_say() -> None:
    glyphs = [tuple(GLYPHS[pair[0]].ravel().tolist()) for pair in FONT.split()]
    assert len(set(glyphs)) == len(glyphs)
    for env_id, row in ENVS.items():
        env = SingleEnv(row.task, render_mode="ansi", **row.arguments)
        env.reset(seed=0)
        text = env.render()
        assert set(text.upper()) <= {*GLYPHS, "#", "\n"}, env_id
        if type(env.task).render_pixels is BatchedTask.render_pixels:  # Others draw their pictures themselves.
            assert sum(-(-len(line) // COLUMNS) for line in text.split("\n")) <= ROWS, env_id


@pytest.mark.parametrize("steps", [0, 1])
def test_a_task_that_draws_nothing_shows_its_text(steps: int) -> None:
    env = SingleEnv(Minesweeper, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.array([0, 0]))
    assert np.array_equal(env.render(), draw_text(env.task.render_text(0)))
