"""P cells with weights of their own step as each would alone."""

import pytest
import torch

from rlstm.cells import CELLS, make_cell
from rlstm.cells.base import RecurrentCell
from rlstm.cells.population_linear import PopulationLinear
from rlstm.core.trees import tree_leaves, tree_map

POPULATION, SLOTS, INPUTS, HIDDEN = 3, 2, 4, 5


def population(name: str, num_layers: int):
    cells = [make_cell(name, INPUTS, HIDDEN, num_layers=num_layers).double() for _ in range(POPULATION)]
    with torch.no_grad():
        for cell in cells:
            for parameter in cell.parameters():
                parameter.normal_(std=0.7)
    weights = [dict(cell.named_parameters()) for cell in cells]
    return cells, {name: torch.stack([one[name].detach() for one in weights]) for name in weights[0]}


@pytest.mark.parametrize(
    ("name", "path", "num_layers"),
    [(name, "own", 1) for name in CELLS]
    + [("lstm", "for any cell", 1), ("gru", "own", 2), ("time_aware_lstm", "own", 2)]
    + [
        pytest.param(name, path, number, marks=pytest.mark.slow)
        for name in CELLS
        for path in ("own", "for any cell")
        for number in (1, 2)
    ],
)
def test_every_cell_of_a_population_steps_as_it_would_alone(name, path, num_layers, monkeypatch) -> None:
    if path == "for any cell":
        monkeypatch.setattr(CELLS[name], "population_snapshot", RecurrentCell.population_snapshot)
    cells, parameters = population(name, num_layers)
    step = cells[0].population_snapshot(parameters)
    state = cells[0].init_state(POPULATION * SLOTS)
    alone = [cell.init_state(SLOTS) for cell in cells]
    torch.manual_seed(1)
    with torch.inference_mode():
        for _ in range(4):
            inputs = torch.randn(POPULATION * SLOTS, INPUTS, dtype=torch.float64)
            before = inputs.clone(), tree_map(torch.clone, state)
            outputs, state_after = step(inputs, state)
            for kept, now in zip(tree_leaves(before), tree_leaves((inputs, state)), strict=True):
                assert torch.equal(kept, now)  # Arguments are not written to.
            state = state_after
            for index, cell in enumerate(cells):
                rows = slice(index * SLOTS, (index + 1) * SLOTS)
                expected, alone[index] = cell.step(inputs[rows], alone[index])
                assert torch.allclose(outputs[rows], expected, rtol=0, atol=1e-12)
                for leaf, own in zip(tree_leaves(state), tree_leaves(alone[index]), strict=True):
                    assert torch.allclose(leaf[rows], own, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "slots"),
    [("lstm", 3), ("gru", 6), ("mlstm", 1), ("peephole_lstm", 3)]
    + [pytest.param(name, slots, marks=pytest.mark.slow) for name in CELLS for slots in (1, 3, 6)],
)
def test_a_member_of_a_float32_population_steps_as_in_float64(name, slots) -> None:
    """But for rounding; and as in a population of one, whoever is beside it."""
    atol = 1e-4 if name in ("mlstm", "xlstm") else 1e-5  # These divide by what may be small.
    cells, parameters = population(name, num_layers=1)
    single = {key: value.float() for key, value in parameters.items()}
    exact = {key: value.double() for key, value in single.items()}
    together = cells[0].float().population_snapshot(single)
    alone = [cells[0].population_snapshot({key: value[k : k + 1] for key, value in single.items()}) for k in range(3)]
    state = cells[0].init_state(POPULATION * slots)
    own = [cells[0].init_state(slots) for _ in alone]
    exactly = cells[1].population_snapshot(exact)
    exact_state = cells[1].init_state(POPULATION * slots)
    handed_out = []
    torch.manual_seed(1)
    with torch.inference_mode():
        for _ in range(20):
            inputs = torch.randn(POPULATION * slots, INPUTS)
            outputs, state = together(inputs, state)
            expected, exact_state = exactly(inputs.double(), exact_state)
            assert torch.allclose(outputs.double(), expected, rtol=0, atol=atol)
            handed_out.append(((outputs, state), tree_map(torch.clone, (outputs, state))))
            for index, step in enumerate(alone):
                rows = slice(index * slots, (index + 1) * slots)
                expected, own[index] = step(inputs[rows], own[index])
                assert torch.allclose(outputs[rows], expected, rtol=0, atol=atol)
    for now, then in handed_out:  # No later step has written to what an earlier one returned.
        assert all(torch.equal(one, two) for one, two in zip(tree_leaves(now), tree_leaves(then), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [1, 2, 7])
def test_a_layer_of_a_population_is_that_of_each_whatever_the_number_of_rows(outputs, dtype) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(4, outputs, 3, dtype=dtype), torch.randn(4, outputs, dtype=dtype)
    layer = PopulationLinear(weight, bias)
    for rows in (1, 2, 5, 4, 9, 1):
        inputs = torch.randn(4 * rows, 3, dtype=dtype)
        inputs[0, 0] = torch.nan  # What has gone wrong in one network stays there.
        expected = [torch.nn.functional.linear(inputs[k * rows : (k + 1) * rows], weight[k], bias[k]) for k in range(4)]
        assert torch.allclose(layer(inputs), torch.cat(expected), rtol=0, atol=1e-6, equal_nan=True)
        assert torch.isfinite(layer(inputs)[1:]).all()


@pytest.mark.parametrize("name", CELLS)
def test_what_a_redundant_parameter_says_others_can_say(name) -> None:
    """Moved into the bias beside it, it changes nothing."""
    cell = make_cell(name, INPUTS, HIDDEN).double()
    parameters = dict(cell.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_()
        inputs = torch.randn(2, INPUTS, dtype=torch.float64)
        before, _ = cell.step(inputs, cell.init_state(2))
        for redundant, other in cell.redundant_parameters.items():
            parameters[other] += parameters[redundant]
            parameters[redundant].zero_()
        after, _ = cell.step(inputs, cell.init_state(2))
    assert torch.allclose(before, after, rtol=0, atol=1e-12)
