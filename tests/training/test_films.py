"""Claims about films in TensorBoard: as often as asked for, of envs that draw, and no run is lost by a drawing."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlstm
from rlstm.inspection import filming

UPDATE = 4 * 8
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3},
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 1,
    "hidden_size": 4,
    "num_threads": 1,
    "eval_episodes": 2,
    "total_steps": 6 * UPDATE,
    "eval_every": UPDATE,
    "ui": "none",
}


def films(path):
    events = EventAccumulator(str(path), size_guidance={"images": 0}).Reload()
    return events.Images("eval/film") if "eval/film" in events.Tags()["images"] else []


def test_every_so_many_evaluations_there_is_a_film(tmp_path):
    rlstm.train("ppo", record_every=2, run_dir=str(tmp_path / "run"), **TINY)
    found = films(tmp_path / "run")
    assert [one.step for one in found] == [2 * UPDATE, 4 * UPDATE, 6 * UPDATE]
    (tmp_path / "film.gif").write_bytes(found[-1].encoded_image_string)
    with Image.open(tmp_path / "film.gif") as image:
        assert image.format == "GIF"
        assert image.size == (found[-1].width, found[-1].height)


@pytest.mark.parametrize(("settings", "count"), [({}, 0), ({"record_every": 0}, 0)])
def test_short_runs_and_those_that_want_none_have_no_film(tmp_path, settings, count):
    rlstm.train("ppo", run_dir=str(tmp_path / "run"), **{**TINY, **settings})
    assert len(films(tmp_path / "run")) == count


def test_a_longer_run_ends_with_a_film(tmp_path, monkeypatch):
    monkeypatch.setattr("rlstm.training.films._FILMED_STEPS", 6 * UPDATE)
    rlstm.train("ppo", run_dir=str(tmp_path / "run"), **TINY)
    assert [one.step for one in films(tmp_path / "run")] == [6 * UPDATE]


def test_a_film_changes_nothing_in_the_run(tmp_path):
    results = []
    for every in (0, 1):
        path = tmp_path / str(every)
        rlstm.train("ppo", record_every=every, run_dir=str(path), **TINY)
        (weights,) = sorted(path.glob("checkpoints/step_*192*/model.safetensors"))
        results.append(weights.read_bytes())
    assert results[0] == results[1]


class Undrawn(gym.Env):
    error = OSError("no graphics here")
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, dtype=np.float32), 1.0, self.steps == 4, False, {}

    def render(self):
        raise self.error


@pytest.mark.parametrize("error", [OSError("no graphics here"), SystemExit("no graphics here")])
def test_an_env_whose_drawing_fails_trains_on_and_is_told_once(tmp_path, capfd, monkeypatch, error):
    monkeypatch.setattr(Undrawn, "error", error)
    gym.register("films/Undrawn-v0", Undrawn)
    settings = {**TINY, "env": "films/Undrawn-v0", "env_kwargs": {}, "ui": "plain"}
    result = rlstm.train("ppo", record_every=1, run_dir=str(tmp_path / "run"), **settings)
    gym.registry.pop("films/Undrawn-v0")
    assert result.steps == 6 * UPDATE
    assert capfd.readouterr().err.count(f"The env can't be filmed: {type(error).__name__}: no graphics here.") == 1


def test_long_episodes_are_thinned_and_keep_their_time(monkeypatch):
    pictures = [filming.Picture(np.zeros((2, 2, 3), np.uint8), 0.1) for _ in range(250)]
    kept = filming._thinned([*pictures, filming.Picture(np.ones((2, 2, 3), np.uint8), 1.0)])
    assert len(kept) <= filming._MOST_PICTURES + 1
    assert sum(one.seconds for one in kept) == pytest.approx(26.0, abs=0.5)
    assert kept[-1].pixels.all()
