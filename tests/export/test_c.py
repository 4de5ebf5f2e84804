"""Policies in C do what the policies do, and the check sees it where they don't."""

import ctypes
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.api.loaded_agent import LoadedAgent
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.export.c import CExportError, can_write_c, check_c, write_c
from rlstm.export.c.build import build_program
from rlstm.export.c.cells import CELL_FORMS
from rlstm.export.c.compiled import CompiledPolicy, find_compiler
from rlstm.export.c.program import number
from rlstm.export.c.structures import structure
from rlstm.policies.policy import RecurrentPolicy
from tests.kit import make_policy

COMPILER = find_compiler()
FLAGS = "-O1 -Wextra -pedantic -Wshadow -Wdouble-promotion"

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def strict_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every compilation of this file is free of warnings, which are errors."""
    monkeypatch.setenv("CFLAGS", FLAGS)


def policy_of(observation_space: gym.Space | None = None, action_space: gym.Space | None = None, **settings: Any):
    """A policy of float32 in whose statistics every number has its own mean and deviation."""
    space = spaces.Box(-5, 5, (3,), np.float32) if observation_space is None else observation_space
    given = {"normalize_observations": True, "scale_rewards": True, "noise": 0.2, **settings}
    policy = make_policy(space, action_space, dtype=torch.float32, **given)
    random = torch.Generator().manual_seed(5)
    moments = [policy.return_moments, policy.value_moments, policy.reward_moments]
    for one in (*moments, *(trunk.encoder.moments for trunk in policy.trunks())):
        if one is not None:
            one.mean.copy_(torch.randn(one.mean.shape, generator=random))
            one.variance.copy_(0.5 + torch.rand(one.variance.shape, generator=random))
    return policy


def difference(policy: RecurrentPolicy, folder: Path, name: str = "policy") -> float:
    write_c(policy, folder, name)
    found = check_c(policy, folder, name)
    assert found is not None
    return found


TRIALS = MemoryConfig(lifetime="trial", episodes_per_trial=3)
ALL_INPUTS = {"memory": TRIALS}
FLOATS = spaces.Box(np.array([-1, 0, 3], np.float32), np.array([2, 0.5, 3.5], np.float32))
HALF_INFINITE = spaces.Box(np.array([-np.inf, 0, -np.inf]), np.array([np.inf, np.inf, 2.0]), dtype=np.float64)
MIXED = spaces.Dict(
    {
        "time": spaces.Box(0, 2e9, (2,), np.float64),
        "bits": spaces.MultiBinary((2, 2)),
        "room": spaces.Discrete(4, start=-2),
        "pair": spaces.Tuple((spaces.MultiDiscrete([2, 3], start=[5, 0]), spaces.Box(0, 255, (2, 2), np.uint8))),
        "action_mask": spaces.MultiBinary(3),
        "a-b": spaces.Box(-np.inf, np.inf, (), np.float32),
        "a_b": spaces.Box(-7, 7, (2,), np.int32),
    }
)

CASES: dict[str, dict[str, Any]] = {
    **{f"cell {name}": {"cell": name, **ALL_INPUTS} for name in CELL_FORMS},
    "identity candidate": {"cell": "min_lstm", "cell_kwargs": {"candidate": "identity"}},
    "stack": {"cell": "lstm", "num_layers": 3},
    "residual stack": {"cell": "gru", "num_layers": 3, "residual": True, "layer_norm": True},
    "normed stack": {"cell": "none", "num_layers": 2, "layer_norm": True},
    "separate critic": {"critic_memory": "separate", "cell": "gru"},
    "heads with layers": {"head_sizes": (7, 4), "encoder_sizes": (5, 6)},
    "no encoder": {"encoder_sizes": (), "normalize_observations": False, "scale_rewards": False},
    "highway": {"highway": True, "encoder_sizes": (6, 6, 4, 4)},
    "popart": {"popart": True},
    "discrete": {"action_space": spaces.Discrete(5, start=-3), **ALL_INPUTS},
    "one action": {"action_space": spaces.Discrete(1)},
    "far discrete": {"action_space": spaces.Discrete(3, start=2**40), **ALL_INPUTS},
    "multi-discrete": {"action_space": spaces.MultiDiscrete([[2, 3], [1, 4]], start=[[0, 7], [-2, 0]]), **ALL_INPUTS},
    "bits": {"action_space": spaces.MultiBinary((2, 3)), **ALL_INPUTS},
    "scaled": {"action_space": FLOATS, **ALL_INPUTS},
    "clipped": {"action_space": FLOATS, "scale_actions": False, **ALL_INPUTS},
    "squashed": {"action_space": FLOATS, "squash_actions": True, **ALL_INPUTS},
    "half-infinite": {"action_space": HALF_INFINITE, "initial_log_std": -1.0, **ALL_INPUTS},
    "raw rewards": {"inputs": InputsConfig(previous_reward=True), "normalize_observations": False},
    "dict": {"observation_space": MIXED, **ALL_INPUTS},
    "raw dict": {"observation_space": MIXED, "normalize_observations": False, "memory": MemoryConfig("lifelong")},
    "symbol": {"observation_space": spaces.Discrete(3)},
    "image as numbers": {"observation_space": spaces.Box(0, 255, (8, 8, 3), np.uint8), "encoder": "mlp"},
}


@needs_compiler
@pytest.mark.parametrize("case", CASES)
def test_the_c_does_what_the_policy_does(case: str, tmp_path: Path) -> None:
    assert difference(policy_of(**CASES[case]), tmp_path, "p") < 4e-6


@needs_compiler
def test_a_signal_on_a_large_number_survives(tmp_path: Path) -> None:
    policy = policy_of(spaces.Box(0, 2e9, (2,), np.float64))
    assert policy.actor.encoder.moments is not None
    policy.actor.encoder.moments.mean.fill_(1.7e9)
    assert difference(policy, tmp_path) < 4e-6
    source = tmp_path / "policy.c"
    source.write_text(source.read_text().replace("(double)input", "(double)(float)input"))
    with pytest.raises(CExportError, match="differs by"):
        check_c(policy, tmp_path)


def compiled(policy: RecurrentPolicy, folder: Path) -> CompiledPolicy:
    write_c(policy, folder)
    compiler = find_compiler()
    assert compiler is not None
    library = Path(tempfile.mkdtemp(dir=folder))
    return CompiledPolicy(build_program(policy, "policy"), folder / "policy.c", library, compiler)


@needs_compiler
@pytest.mark.parametrize("action_space", [spaces.Discrete(4, start=2), FLOATS])
def test_the_c_plays_like_the_loaded_agent(action_space: gym.Space, tmp_path: Path) -> None:
    policy, random = policy_of(action_space=action_space, **ALL_INPUTS), np.random.default_rng(0)
    ours, loaded = compiled(policy, tmp_path), LoadedAgent(policy)
    for step in range(40):
        if step in (0, 17):
            ours.reset()
            loaded.reset()
        observation, reward, start = random.normal(size=3).astype(np.float32), float(random.normal()), step % 6 == 0
        found = ours.step({"observation": observation, "reward": reward, "episode_start": start})["action"]
        assert found == pytest.approx(np.ravel(loaded.act(observation, reward, start)), abs=1e-5)


@needs_compiler
def test_a_reset_is_a_fresh_start(tmp_path: Path) -> None:
    policy = policy_of(**ALL_INPUTS)
    used, fresh = compiled(policy, tmp_path), compiled(policy, tmp_path)
    observations = np.random.default_rng(0).normal(size=(8, 3))
    for observation in observations:
        used.step({"observation": observation, "reward": 5.0, "episode_start": 0})
    used.reset()
    for observation in observations:
        values = {"observation": observation, "reward": 2.0, "episode_start": 0}
        found, expected = used.step(values), fresh.step(values)
        assert all((found[key] == expected[key]).all() for key in expected)


@needs_compiler
def test_two_agents_share_nothing(tmp_path: Path) -> None:
    policy = policy_of()
    one, other = compiled(policy, tmp_path), compiled(policy, tmp_path)
    other._library = one._library
    values = {"observation": np.ones(3)}
    first = one.step(values)
    other.step({"observation": -np.ones(3)})
    other.reset()
    assert (other.step(values)["parameters"] == first["parameters"]).all()


@needs_compiler
def test_the_actions_are_those_of_the_space(tmp_path: Path) -> None:
    policy = policy_of(action_space=FLOATS, initial_log_std=3.0)
    agent = compiled(policy, tmp_path)
    noise = np.random.default_rng(0).standard_normal((20, 3))
    actions = [agent.step({"observation": np.ones(3), "noise": one})["action"] for one in noise]
    assert all(FLOATS.contains(action.astype(np.float32)) for action in actions)
    assert len({tuple(action) for action in actions}) > 5


@needs_compiler
def test_an_unknown_symbol_stays_inside_its_place(tmp_path: Path) -> None:
    agent = compiled(policy_of(spaces.Discrete(3)), tmp_path)
    assert all(np.isfinite(agent.step({"observation": wrong})["parameters"]).all() for wrong in (-4, 3, 2**31 - 1))


def test_the_source_allocates_nothing_and_writes_no_globals(tmp_path: Path) -> None:
    write_c(policy_of(**CASES["dict"], critic_memory="separate"), tmp_path)
    source = (tmp_path / "policy.c").read_text()
    assert not re.search(r"malloc|calloc|realloc|alloca", source)
    outside = [line for line in source.splitlines() if line.endswith(" = {")]
    assert outside
    assert all(line.startswith("static const ") for line in outside)
    assert not re.search(r"^static (?!const)[^(\n]*[;=]", source, re.MULTILINE)
    assert set(re.findall(r"#include (\S+)", source)) == {'"policy.h"', "<math.h>", "<string.h>"}


def test_the_same_policy_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_c(policy_of(**CASES["dict"]), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.name for path in first] == ["policy.h", "policy.c"]


@needs_compiler
def test_the_header_tells_sizes_and_resets(tmp_path: Path) -> None:
    policy = policy_of(**ALL_INPUTS)
    header = write_c(policy, tmp_path, "pilot")[0].read_text()
    state = ctypes.sizeof(structure(build_program(policy, "pilot").state))
    assert "before the first step of every trial of 3 episodes" in " ".join(header.replace("*", " ").split())
    assert f"{state:,} of state" in " ".join(header.replace("*", " ").split())
    assert "#define PILOT_OBSERVATION_SIZE 3\n" in header
    assert "/* Observation: -5 to 5. */" in header
    main = 'int main(void) { printf("%d", (int)sizeof(pilot_state)); return 0; }'
    (tmp_path / "main.c").write_text(f'#include <stdio.h>\n#include "pilot.h"\n{main}\n')
    assert COMPILER is not None
    sources = ["main.c", "pilot.c", "-std=c99", "-o", "main", "-lm"]
    subprocess.run([*COMPILER, *sources], check=True, cwd=tmp_path)
    assert subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout == str(state)


@needs_compiler
def test_the_example_of_the_page_plays(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export-c.md").read_text(encoding="utf-8")
    (main,) = re.findall(r"^```c\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    write_c(policy_of(action_space=spaces.Discrete(4)), tmp_path, "tmaze")
    (tmp_path / "main.c").write_text(main)
    flags = ["-std=c99", "-Wall", "-Werror", *FLAGS.split()]
    assert COMPILER is not None
    subprocess.run([*COMPILER, *flags, "main.c", "tmaze.c", "-o", "main", "-lm"], check=True, cwd=tmp_path)
    played = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"^step \d+: action [0-3], value -?[\d.]+$", played, re.MULTILINE)) == 21


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cell": "slstm"}, "'slstm' can't be written in C; these can: lstm, gru, elman"),
        ({"cell": "mlstm", "num_layers": 2, "residual": True, "encoder_sizes": (5,)}, "these can: lstm, gru"),
        ({"observation_space": spaces.Box(0, 255, (16, 16, 3), np.uint8)}, "'cnn'.*these can: mlp and one_hot"),
        (
            {"observation_space": spaces.Dict({"x": spaces.Discrete(3)}), "encoder": "embedding"},
            "'embedding'.*at x.*these can: mlp and one_hot",
        ),
    ],
)
def test_a_refusal_names_what_can_be_written(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        write_c(policy_of(**settings), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_weights_of_float64_are_refused_and_can_be_rounded(tmp_path: Path) -> None:
    policy = policy_of().double()
    assert ".float()" in (can_write_c(policy) or "")
    assert can_write_c(policy.float()) is None


def test_random_agents_are_refused() -> None:
    policy = policy_of()
    policy.distribution = policy.distribution.at_random()
    assert "learnt" in (can_write_c(policy) or "")


def test_broken_weights_are_refused() -> None:
    policy = policy_of()
    with torch.no_grad():
        policy.policy_head[-1].bias[0] = torch.nan
    assert "not finite" in (can_write_c(policy) or "")


def test_a_name_that_is_none_in_c_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'2nd'"):
        write_c(policy_of(), tmp_path, "2nd")


def test_constants_can_be_read_back_exactly() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values = np.concatenate([values, values * np.float32(1e-38), np.array([0, -0.0, 1, 3e38], np.float32)])
    assert all(np.float32(number(one, "float").removesuffix("f")) == one for one in values.tolist())
    assert [number(one, "float") for one in (1.0, 1e30, float("-inf"))] == ["1.0f", "1e+30f", "-INFINITY"]


BREAKAGES = {
    "a weight": (r"(actor_0_weight_hh\[\d+\] = \{\n    )-?[\d.e-]+f", r"\g<1>0.75f"),
    "two gates": (r"forget_gate \* c\[i\] \+ input_gate", "input_gate * c[i] + forget_gate"),
    "the last reward": (r"input->reward / ", "-input->reward / "),
    "the last action": (r"state->previous_action = chosen \+ 1", "state->previous_action = chosen"),
    "the start": (r"output->action = chosen \+ 1", "output->action = chosen"),
    "the mask": (r"mask == NULL \|\| mask\[i\]", "mask == NULL || !mask[i]"),
    "a mean": (r"(actor_mean\[\d+\] = \{\n    )-?[\d.e-]+f", r"\g<1>0.75f"),
    "the memory's reset": (r"memset\(state, 0, sizeof \*state\);", ""),
    "not a number": (r"return \(sum_0", "return logf(-1.0f) + (sum_0"),
}


@needs_compiler
@pytest.mark.parametrize("what", BREAKAGES)
def test_the_check_refuses_broken_c(what: str, tmp_path: Path) -> None:
    policy = policy_of(action_space=spaces.Discrete(4, start=1), **ALL_INPUTS)
    _, source = write_c(policy, tmp_path)
    pattern, instead = BREAKAGES[what]
    broken, count = re.subn(pattern, instead, source.read_text())
    assert count == 1
    source.write_text(broken)
    seen = "the action is" if what in ("the start", "the mask") else "differs by"
    with pytest.raises(CExportError, match=seen):
        check_c(policy, tmp_path)


@needs_compiler
def test_the_files_of_another_policy_are_refused(tmp_path: Path) -> None:
    write_c(policy_of(hidden_size=6), tmp_path)
    with pytest.raises(CExportError, match="another policy"):
        check_c(policy_of(), tmp_path)


@needs_compiler
def test_c_that_does_not_compile_is_refused(tmp_path: Path) -> None:
    _, source = write_c(policy_of(), tmp_path)
    source.write_text(source.read_text().replace("tanhf(", "tanhff("))
    with pytest.raises(CExportError, match="tanhff"):
        check_c(policy_of(), tmp_path)


def test_without_a_compiler_there_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "")
    write_c(policy_of(), tmp_path)
    assert check_c(policy_of(), tmp_path) is None


@needs_compiler
def test_the_check_leaves_the_policy_as_it_is(tmp_path: Path) -> None:
    policy = policy_of(observation_space=MIXED, **ALL_INPUTS)
    before = policy.generator.get_state(), policy.observation_space.np_random.bit_generator.state
    difference(policy, tmp_path)
    assert (policy.generator.get_state() == before[0]).all()
    assert policy.observation_space.np_random.bit_generator.state == before[1]
