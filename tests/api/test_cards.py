"""Claims about `rlstm card`: the card says what the run is, reads as YAML's front matter, and no other file is lost."""

from __future__ import annotations

import json
import re

import pytest

import rlstm
from rlstm.api.cards import write_card
from rlstm.training.config import ConfigError

TINY = {"num_envs": 2, "num_steps": 8, "num_minibatches": 1, "hidden_size": 4, "num_threads": 1, "eval_episodes": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cards") / "run"
    env = {"env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 3}}
    rlstm.train("ppo", ui="none", total_steps=64, eval_every=16, run_dir=str(path), **env, **TINY)
    return path


def test_a_card_says_how_good_the_agent_is_with_and_without_memory(run):
    path, facts = write_card(run, episodes=6, licence="mit")
    assert path == run / "README.md"
    expected = [rlstm.evaluate(run, episodes=6, ablate_memory=ablated).mean_return for ablated in (False, True)]
    assert [facts["mean_return"], facts["mean_return_without_memory"]] == expected
    text = path.read_text(encoding="utf-8")
    assert f"| with its memory | {expected[0]:.4g} ±" in text
    assert f"| its memory reset at every step | {expected[1]:.4g} |" in text
    assert "| best without memory | 1.95 |" in text
    assert "| `hidden_size` | `4` |" in text
    assert "Reset it before every episode." in text
    assert "## Learning" in text
    assert "/" not in re.search(r"rlstm.load\((.*)\)", text)[1]  # No folder of this machine.


def test_its_front_matter_has_what_model_hubs_read(run):
    write_card(run, episodes=2, licence="apache-2.0")
    _, front, _ = (run / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    lines = front.splitlines()
    assert lines[:2] == ["library_name: rlstm", 'license: "apache-2.0"']
    assert lines[2].startswith('tags: ["rlstm/TMaze-v0", deep-reinforcement-learning, reinforcement-learning')
    (metric,) = [line for line in lines if "mean_reward" in line]
    assert re.search(r'value: "-?\d+\.\d\d \+/- \d+\.\d\d"', metric)
    write_card(run, episodes=2)
    assert "license" not in (run / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1]


def test_a_readme_of_somebody_else_is_left_alone(run):
    path = run / "README.md"
    path.write_text("my notes", encoding="utf-8")
    with pytest.raises(ConfigError, match="was written by somebody else"):
        write_card(run, episodes=2)
    assert path.read_text(encoding="utf-8") == "my notes"
    write_card(run, episodes=2, force=True)
    write_card(run, episodes=2)  # Its own it writes anew.
    assert json.dumps("rlstm/TMaze-v0") in path.read_text(encoding="utf-8")
