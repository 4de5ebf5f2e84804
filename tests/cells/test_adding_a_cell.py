"""The page `docs/adding-a-cell.md`: its cell keeps the contract and is trained by its name."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import rlstm
from rlstm.cells import CELLS, RecurrentCell
from rlstm.testing import check_cell

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-cell.md"
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 2},
    "cell": "janet",
    "hidden_size": 4,
    "ui": "none",
    "eval_every": 0,
}


@pytest.fixture
def cell_class(monkeypatch) -> type[RecurrentCell]:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("rlstm.cells.janet")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(CELLS, "janet", module.JANETCell)
    return module.JANETCell


def test_the_cell_of_the_page_keeps_the_contract(cell_class) -> None:
    check_cell(cell_class)
    assert cell_class(3, 4).sequence_path(torch.device("cpu")) == "hand-written backpropagation through time"
    assert len(PAGE.read_text().splitlines()) <= 80


def test_without_its_kernel_it_is_the_loop_and_keeps_the_contract(cell_class, monkeypatch) -> None:
    monkeypatch.setattr(cell_class, "kernel", None)
    check_cell(cell_class)
    assert cell_class(3, 4).sequence_path(torch.device("cpu")) == "loop of steps"


def test_its_population_is_every_cell_alone(cell_class) -> None:
    torch.manual_seed(0)
    cells = [cell_class(3, 4).double() for _ in range(3)]
    step = cells[0].population_snapshot(
        {n: torch.stack([c.get_parameter(n).data for c in cells]) for n, _ in cells[0].named_parameters()}
    )
    inputs, state = torch.randn(6, 3).double(), cells[0].init_state(6)
    _, state = step(inputs, state)
    outputs, _ = step(inputs, state)
    for k, cell in enumerate(cells):
        rows = slice(2 * k, 2 * k + 2)
        _, own = cell.step(inputs[rows], cell.init_state(2))
        torch.testing.assert_close(outputs[rows], cell.step(inputs[rows], own)[0].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("agent", "settings"),
    [
        ("ppo", {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "total_steps": 64}),
        ("evolino", {"population": 8, "total_steps": 100}),
    ],
)
def test_agents_train_it_by_its_name(agent, settings, cell_class, tmp_path) -> None:
    result = rlstm.train(agent, **TINY, **settings, run_dir=str(tmp_path / "run"), memory_length=5)
    assert result.steps >= 64
