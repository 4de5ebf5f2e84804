"""Claims about `--cell FILE.toml`: a run holds the graph itself, and nothing takes another one for it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import rlstm
import rlstm.api.experiments as api
from rlstm.api.configs import make_config
from rlstm.api.exports import export
from rlstm.api.finished_runs import evaluate_run, open_run
from rlstm.api.inspecting import inspect_run
from rlstm.api.tuning.tune import tune
from rlstm.cli.train import experiment
from rlstm.core.cell_graph_files import graph_text, read_graph
from rlstm.core.cell_graphs import CellGraph, Node, lstm_graph
from rlstm.core.errors import CheckpointError, ExportError
from rlstm.policies.config import PolicyConfig
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.config_layers import layer
from rlstm.training.run_directory import RunDirectory

TINY: dict[str, Any] = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3},
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 2,
    "hidden_size": 6,
    "encoder_sizes": (5,),
    "total_steps": 64,
    "eval_every": 0,
    "eval_episodes": 3,
    "num_threads": 1,
}
GATED = CellGraph(
    (
        Node("seen", "linear", ("x", "h")),
        Node("gate_sum", "linear", ("x", "h"), 1.0),
        Node("gate", "sigmoid", ("gate_sum",)),
        Node("last", "memory", ("kept",)),
        Node("old", "product", ("gate", "last")),
        Node("kept", "sum", ("old", "seen")),
        Node("out", "tanh", ("kept",)),
    ),
    "out",
)
OTHER = CellGraph((*GATED.nodes[:-1], Node("out", "sigmoid", ("kept",))), "out")


@pytest.fixture
def found(tmp_path: Path) -> Path:
    return written(tmp_path / "found.toml", GATED)


def written(path: Path, graph: CellGraph) -> Path:
    path.write_text(graph_text(graph), encoding="utf-8")
    return path


def train(path: Path, **settings: Any) -> Any:
    return rlstm.train("ppo", ui="none", run_dir=str(path), **{**TINY, **settings})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(RunDirectory.open(path), "latest").model)


def test_a_run_goes_on_without_its_file_as_it_would_have(tmp_path, found):
    whole = train(tmp_path / "whole", cell=str(found), total_steps=128)
    train(tmp_path / "half", cell=str(found))
    found.unlink()
    api.resume(tmp_path / "half", total_steps=128, ui="none")
    for name, value in weights(Path(whole.run_dir)).items():
        assert torch.equal(weights(tmp_path / "half")[name], value)
    assert open_run(tmp_path / "half").policy.actor.cell.graph == GATED
    assert math.isfinite(evaluate_run(tmp_path / "half", episodes=2).mean_return)
    assert rlstm.load(tmp_path / "half").act([0.0, 1.0, 0.0]) in range(4)


def test_a_file_that_has_changed_changes_no_run(tmp_path, found):
    train(tmp_path / "run", cell=str(found))
    written(found, OTHER)
    api.resume(tmp_path / "run", total_steps=128, ui="none")
    assert open_run(tmp_path / "run").policy.actor.cell.graph == GATED


def test_a_graph_that_was_edited_in_a_run_is_refused(tmp_path, found):
    train(tmp_path / "run", cell=str(found))
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["settings"]["cell_kwargs"]["graph"]["nodes"]["out"]["op"] = "sigmoid"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"cell: the checkpoint has 'graph .*', expected 'graph "):
        api.resume(tmp_path / "run", total_steps=128, accept_edits=True, ui="none")


def test_weights_of_another_graph_of_the_same_shapes_are_refused(tmp_path, found):
    train(tmp_path / "run", cell=str(found))
    train(tmp_path / "same", cell=str(found), init_from=str(tmp_path / "run"))
    written(found, OTHER)
    with pytest.raises(ConfigError, match="The cell is another graph than that of"):
        train(tmp_path / "other", cell=str(found), init_from=str(tmp_path / "run"))
    assert not (tmp_path / "other").exists()


def test_a_file_that_can_not_be_taken_is_refused_before_a_run_is_made(tmp_path, found):
    found.write_text(found.read_text(encoding="utf-8").replace('"memory"', '"identity"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"The cell file .*found.toml: The nodes .*last.* in a circle"):
        train(tmp_path / "run", cell=str(found))
    with pytest.raises(ConfigError, match="Can't read the cell file"):
        train(tmp_path / "run", cell=str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigError, match="doesn't say which of its nodes keep"):
        train(tmp_path / "run", cell=str(written(found, GATED)), memory_length=10)
    assert not (tmp_path / "run").exists()


def test_settings_hold_the_graph_wherever_the_file_was_named(tmp_path, found):
    expected = {"graph": GATED.table()}
    settings_file = tmp_path / "settings.toml"
    settings_file.write_text(f'cell = "{found}"\n', encoding="utf-8")
    env = ["--env", "rlstm/TMaze-v0"]
    for config in (
        make_config("ppo", cell=str(found)),
        make_config("evolino", cell=found),
        experiment("ppo", [*env, "--cell", str(found)])[0],
        experiment("ppo", [*env, "--config", str(settings_file)])[0],
    ):
        assert (config.policy.cell, config.policy.cell_kwargs) == ("graph", expected)
    assert PolicyConfig(cell=found).cell_identity == f"graph {GATED.digest}"
    other = written(tmp_path / "other.toml", OTHER)
    config, _ = experiment("ppo", [*env, "--config", str(settings_file), "--cell", str(other)])
    assert config.policy.cell_kwargs == {"graph": OTHER.table()}


def test_another_cell_takes_none_of_the_options_of_a_cell():
    below = {"cell": "graph", "cell_kwargs": {"graph": GATED.table()}}
    assert layer(below, {"cell": "lstm"})["cell_kwargs"] == {}
    assert layer(below, {"cell": "xlstm", "cell_kwargs": {"num_heads": 2}})["cell_kwargs"] == {"num_heads": 2}
    assert layer(below, {"cell": "graph"})["cell_kwargs"] == below["cell_kwargs"]


def test_a_policy_with_a_graph_is_inspected_and_exported_but_not_to_c(tmp_path, found):
    train(tmp_path / "run", cell=str(found))
    found.unlink()
    inspect_run(tmp_path / "run", tmp_path / "page.html", episodes=2, probe_episodes=0, window_episodes=2)
    assert "gate" in (tmp_path / "page.html").read_text(encoding="utf-8")
    export(tmp_path / "run", format="pt2", out=tmp_path / "exported")  # Compares what it writes with the policy.
    assert (tmp_path / "exported" / "policy.pt2").exists()
    with pytest.raises(ExportError, match="'graph' can't be written in C; these can: lstm"):
        export(tmp_path / "run", format="c", out=tmp_path / "c")


def test_a_search_for_settings_refuses_files_among_cells(found):
    with pytest.raises(ConfigError, match="is a file: give it alone, as --cell"):
        tune("ppo", env="rlstm/TMaze-v0", search={"cell": f"lstm,{found}"}, ui="none")


def test_the_graph_that_is_the_default_is_the_lstm(tmp_path):
    assert PolicyConfig(cell="graph").cell_identity == "graph"
    assert read_graph(written(tmp_path / "lstm.toml", lstm_graph())) == lstm_graph()
