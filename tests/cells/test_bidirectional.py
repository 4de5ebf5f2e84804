"""A memory of the past beside one of the future."""

import itertools

import pytest
import torch

from rlstm.cells import make_cell
from rlstm.cells.bidirectional import Bidirectional
from rlstm.testing import reset_patterns

STEPS, ROWS = 7, 3
PATTERNS = dict(reset_patterns(STEPS, ROWS))


def make() -> Bidirectional:
    torch.manual_seed(0)
    return Bidirectional(make_cell("lstm", 2, 3), make_cell("gru", 2, 4)).double()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_trajectory_is_read_alone_from_both_ends(pattern: str) -> None:
    both, is_first = make(), PATTERNS[pattern]
    inputs = torch.randn(STEPS, ROWS, 2, dtype=torch.float64)
    outputs, state = both.sequence(inputs, both.init_state(ROWS), is_first)
    assert outputs.shape == (STEPS, ROWS, both.output_size)
    past, expected_state = both.past.sequence(inputs, both.init_state(ROWS), is_first)
    torch.testing.assert_close(outputs[..., :3], past)
    torch.testing.assert_close(state, expected_state)
    for row in range(ROWS):
        starts = [0, *(t for t in range(1, STEPS) if is_first[t, row]), STEPS]
        for begin, end in itertools.pairwise(starts):
            trajectory = inputs[begin:end, row : row + 1]
            nothing = torch.zeros(end - begin, 1, dtype=torch.bool)
            back, _ = both.future.sequence(trajectory.flip(0), both.future.init_state(1), nothing)
            torch.testing.assert_close(outputs[begin:end, row, 3:], back.flip(0)[:, 0])


def test_no_gradient_crosses_a_reset_in_either_direction() -> None:
    both = make()
    is_first = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    is_first[4] = True
    inputs = torch.randn(STEPS, ROWS, 2, dtype=torch.float64, requires_grad=True)
    outputs, _ = both.sequence(inputs, both.init_state(ROWS), is_first)
    (gradient,) = torch.autograd.grad(outputs[:4].sum(), inputs, retain_graph=True)
    assert not gradient[4:].any()
    assert gradient[:4].all()
    (gradient,) = torch.autograd.grad(outputs[4:].sum(), inputs)
    assert not gradient[:4].any()
    assert gradient[4:].all()


def test_acting_on_the_future_is_refused() -> None:
    both = make()
    with pytest.raises(TypeError, match="reads what comes later, so it can't act step by step"):
        both.step(torch.zeros(1, 2), both.init_state(1))
    with pytest.raises(ValueError, match="read 2 and 3 values"):
        Bidirectional(make_cell("gru", 2, 3), make_cell("gru", 3, 3))
