"""P cells with weights of their own step as each would alone."""

import pytest
import torch

from rlstm.cells import CELLS, make_cell
from rlstm.cells.base import RecurrentCell
from rlstm.trees import tree_leaves, tree_map

POPULATION, SLOTS, INPUTS, HIDDEN = 3, 2, 4, 5


def population(name: str, num_layers: int):
    cells = [make_cell(name, INPUTS, HIDDEN, num_layers=num_layers).double() for _ in range(POPULATION)]
    with torch.no_grad():
        for cell in cells:
            for parameter in cell.parameters():
                parameter.normal_(std=0.7)
    weights = [dict(cell.named_parameters()) for cell in cells]
    return cells, {name: torch.stack([one[name].detach() for one in weights]) for name in weights[0]}


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("path", ["own", "for any cell"])
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_a_population_steps_as_it_would_alone(name, path, num_layers, monkeypatch) -> None:
    if path == "for any cell":
        monkeypatch.setattr(CELLS[name], "population_stepper", RecurrentCell.population_stepper)
    cells, parameters = population(name, num_layers)
    step = cells[0].population_stepper(parameters)
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
