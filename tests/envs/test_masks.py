"""The masked MuJoCo tasks: the table against Gymnasium's documentation, and registration with and without mujoco."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs import ENVS
from rlstm.envs.control import masks
from rlstm.envs.control.masks import MASKS, Mask, register_masks

over_masks = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def documented_numbers(base: str) -> list[str]:
    """What each observed number of a MuJoCo environment is, from the table in the docstring of its class.

    Read off the source, as importing it needs mujoco.
    """
    module = gym.spec(base).entry_point.partition(":")[0]
    source = Path(gym.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
    env_class = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    docstring = ast.get_docstring(env_class)
    section = docstring[docstring.index("## Observation Space") : docstring.index("## Rewards")]
    rows = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("|")]
    numbered = [row for row in rows if row[1].isdigit()]
    assert [int(row[1]) for row in numbered] == list(range(len(numbered)))
    return [row[2] for row in numbered]


@pytest.fixture
def registry() -> Iterator[Any]:
    """Gymnasium's registry without the masked ids; put back afterwards."""
    kept = dict(gym.registry)
    for env_id in MASKS:
        gym.registry.pop(env_id, None)
    yield gym.registry
    gym.registry.clear()
    gym.registry.update(kept)


def pretend(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    finder = SimpleNamespace(find_spec=lambda name: object() if is_installed and name == "mujoco" else None)
    monkeypatch.setattr(masks, "importlib", SimpleNamespace(util=finder))


@over_masks
def test_the_kept_numbers_are_velocities_or_none_is(mask: Mask) -> None:
    documented = documented_numbers(mask.base)
    assert len(documented) == mask.base_size
    kept = ["velocity" in documented[index] for index in mask.keep]
    assert all(kept) if "VelocityOnly" in mask.id else not any(kept)


@pytest.mark.parametrize("base", sorted({mask.base for mask in MASKS.values()}))
def test_positions_and_velocities_are_disjoint_and_leave_out_only_forces(base: str) -> None:
    first, second = (mask for mask in MASKS.values() if mask.base == base)
    assert not set(first.keep) & set(second.keep)
    left_out = set(range(first.base_size)) - set(first.keep) - set(second.keep)
    documented = documented_numbers(base)
    assert all("force" in documented[index] for index in left_out)
    assert first.base_size == second.base_size


def test_without_mujoco_nothing_is_registered(monkeypatch: pytest.MonkeyPatch, registry: Any) -> None:
    pretend(monkeypatch, is_installed=False)
    register_masks()
    assert not MASKS.keys() & registry.keys()


def test_with_mujoco_every_row_is_registered_once_with_the_limit_of_its_base(
    monkeypatch: pytest.MonkeyPatch, registry: Any
) -> None:
    pretend(monkeypatch, is_installed=True)
    register_masks()
    specs = {env_id: gym.spec(env_id) for env_id in MASKS}
    register_masks()
    for env_id, mask in MASKS.items():
        assert gym.spec(env_id) is specs[env_id]
        assert specs[env_id].max_episode_steps == gym.spec(mask.base).max_episode_steps == 1000
        assert specs[env_id].kwargs == {"base": mask.base, "keep": list(mask.keep), **mask.arguments}
        assert gym.envs.registration.EnvSpec.from_json(specs[env_id].to_json()) == specs[env_id]
    assert not MASKS.keys() & ENVS.keys()


def test_importing_the_environments_imports_no_mujoco() -> None:
    code = "import sys, rlstm.envs; sys.exit('mujoco' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Counter(gym.Env[Any, Any]):
    """Stands in for a MuJoCo environment: number i is i + step / 100."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (11,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, render_mode: str | None = None, offset: float = 0.0) -> None:
        self.render_mode, self.offset, self.steps = render_mode, offset, 0

    def see(self) -> Any:
        return self.offset + np.arange(11.0) + self.steps / 100

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.see(), 1.0, False, False, {}


def test_a_masked_environment_shows_only_the_kept_numbers(monkeypatch: pytest.MonkeyPatch, registry: Any) -> None:
    pretend(monkeypatch, is_installed=True)
    gym.register("Counter-v0", entry_point=Counter, max_episode_steps=4)
    row = Mask("rlstm/CounterVelocityOnly-v0", "Counter-v0", range(5, 11), 11, {"offset": 100.0})
    monkeypatch.setattr(masks, "MASKS", {row.id: row})
    register_masks()
    env = gym.make(row.id)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.shape == (6,)
    assert observation.tolist() == [105.0, 106.0, 107.0, 108.0, 109.0, 110.0]
    ends = [env.step(env.action_space.sample())[3] for _ in range(4)]
    assert ends == [False, False, False, True]
    np.testing.assert_allclose(env.step(env.action_space.sample())[0], np.arange(105.0, 111.0) + 0.05)
    longer = gym.make(row.id, max_episode_steps=9)
    longer.reset(seed=0)
    assert [longer.step(env.action_space.sample())[3] for _ in range(9)] == [False] * 8 + [True]


@pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="mujoco isn't installed")
@over_masks
def test_the_real_environments_show_their_part_of_the_observation(mask: Mask) -> None:
    env, base = gym.make(mask.id), gym.make(mask.base, **mask.arguments)
    whole, part = base.reset(seed=0)[0], env.reset(seed=0)[0]
    for _ in range(20):
        assert whole.shape == (mask.base_size,)
        assert np.array_equal(part, whole[list(mask.keep)])
        assert env.observation_space.shape == (len(mask.keep),)
        action = base.action_space.sample()
        whole, part = base.step(action)[0], env.step(action)[0]
