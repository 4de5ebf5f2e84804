"""Envs with the quirks of users' own: what check-env tells of them, and that they train in every form."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import rlstm
from rlstm.cli import main
from rlstm.core.errors import EnvironmentFailure
from scripts.quirks.envs import BROKEN, QUIRKS, register

IMPORT = "scripts.quirks.envs"
SOUND = [name for name in QUIRKS if name not in BROKEN]
TINY = {
    "num_envs": 2,
    "hidden_size": 8,
    "encoder_sizes": (8,),
    "num_threads": 1,
    "eval_episodes": 4,
    "eval_max_steps": 20,
    "checkpoint_every": 0,
    "eval_every": 0,
    "ui": "none",
}
PPO = {**TINY, "num_steps": 16, "num_minibatches": 1, "total_steps": 64}
RUNS = {
    "ppo": PPO,
    "ppo async": {**PPO, "vectorization": "async"},
    "reinforce": {**TINY, "num_episodes": 4, "total_steps": 100},
    "evolino": {**TINY, "population": 4, "total_steps": 300, "hidden_size": 4},
}
# Complete episodes are what REINFORCE and evolution learn from, and populations see no images: both are refused.
UNFIT = {("Endless", "reinforce"), ("Endless", "evolino"), ("Frames", "evolino")}
PAIRS = [(name, how) for name in SOUND for how in RUNS if (name, how) not in UNFIT]


@pytest.fixture(autouse=True)
def registered():
    register()  # Another test may have put the registry back to what it was.


def train(name, tmp_path, how, **settings):
    run_dir = str(tmp_path / "run")
    return rlstm.train(
        how.split()[0], env=f"quirks/{name}-v0", env_import=(IMPORT,), run_dir=run_dir, **RUNS[how] | settings
    )


@pytest.mark.parametrize("name", QUIRKS)
def test_check_env_tells_what_an_env_is_like(name, capsys):
    main(["check-env", f"quirks/{name}-v0", "--env-import", IMPORT, "--train-steps", "0", "--json"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    told = [one["finding"] for one in report["checks"] if one["check"] == QUIRKS[name].topic]
    assert any(QUIRKS[name].told in text for text in told), report["checks"]
    assert report["fit"] is (name not in BROKEN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Gymnasium's, of the quirks.
@pytest.mark.parametrize(("name", "how"), PAIRS)
def test_an_env_with_a_quirk_trains_and_its_agent_acts(name, how, tmp_path):
    result = train(name, tmp_path, how)
    env, agent = gym.make(f"quirks/{name}-v0"), rlstm.load(result.run_dir)
    observation, info = env.reset(seed=0)
    for _ in range(10):
        action = agent.act(observation, action_mask=info.get("action_mask"))
        assert env.action_space.contains(np.asarray(action) if np.ndim(action) else action)
        observation, _, _, _, info = env.step(action)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BROKEN)
def test_an_env_that_is_wrong_is_refused_by_what_is_wrong(name, tmp_path):
    with pytest.raises(EnvironmentFailure, match=r"can't be masked|outside Discrete"):
        train(name, tmp_path, "ppo")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "agent", "least", "settings"),
    [
        # Of 10: in the env's units the power stays at 200 watts, where the return is 0 or 4.2 by chance of the bit.
        ("Heater", "ppo", 8.0, {"total_steps": 40_000}),
        ("Heater", "reinforce", 7.0, {"total_steps": 40_000}),
        ("Heater", "evolino", 8.0, {"total_steps": 60_000}),
        ("Trim", "ppo", 8.0, {"total_steps": 40_000}),
        # Of 10: the bit is lost in float32, where chance is 5.
        ("Clock", "ppo", 9.5, {"total_steps": 20_000}),
        ("Frames", "ppo", 9.5, {"total_steps": 10_000}),
        ("MaskInDict", "ppo", 9.5, {"total_steps": 20_000}),
        ("Bits", "ppo", 9.5, {"total_steps": 20_000}),
    ],
)
def test_what_a_quirk_hid_is_learnt(name, agent, least, settings, tmp_path):
    settings |= {"num_threads": 1, "eval_every": 0, "ui": "none", "run_dir": str(tmp_path / "run")}
    settings |= {"eval_actions": "likeliest"}
    result = rlstm.train(agent, env=f"quirks/{name}-v0", env_import=(IMPORT,), **settings)
    assert result.eval_return >= least
