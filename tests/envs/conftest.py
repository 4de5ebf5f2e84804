"""Every test that takes ``env_id`` and ``arguments`` runs for every row of the table and the variants of its task.

By default these are the first rows of the tasks as they are; the variants come with the fixture ``over_variants`` and
with those that compare returns, and otherwise run in the slow tier, as do the levels of difficulty after the first.

``plays/`` has a file for each task or family, with any of

    VARIANTS     id -> arguments to test besides those of the row: short episodes, other branches
    OPTIMAL      id -> a script that attains the task's exact optimal return
    MEMORYLESS   id -> a script without memory that attains the exact memoryless return

A script takes the observations of all steps so far, (B, ...) each, and the env, and returns actions (B, ...). It serves
all ids of its task.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from rlstm.envs import ENVS


def load_plays(name: str) -> dict[str, Any]:
    """Merge one of the tables of all files of plays."""
    merged: dict[str, Any] = {}
    for path in sorted((Path(__file__).parent / "plays").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"plays_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        table = getattr(module, name, {})
        assert table.keys() <= ENVS.keys(), f"{path.name} has {name} of ids that are not registered"
        assert not table.keys() & merged.keys(), f"{path.name} repeats {name} of another file"
        merged.update(table)
    return merged


def list_cases(with_variants: bool) -> list[Any]:
    seen, cases = set(), []
    for env_id, row in ENVS.items():
        is_level = row.task in seen
        seen.add(row.task)
        for arguments in ({}, *VARIANTS.get(env_id, [])):
            marks = [pytest.mark.slow] if is_level or (arguments and not with_variants) else []
            words = ",".join(f"{key}={value}" for key, value in arguments.items())
            cases.append(pytest.param(env_id, arguments, marks=marks, id=f"{env_id.partition('/')[2]}({words})"))
    return cases


VARIANTS = load_plays("VARIANTS")
OPTIMAL = load_plays("OPTIMAL")
MEMORYLESS = load_plays("MEMORYLESS")
CASES = {with_variants: list_cases(with_variants) for with_variants in (False, True)}
WITH_VARIANTS = {"over_variants", "optimal_play", "memoryless_play", "known_returns"}


def is_meant(fixtures: list[str], env_id: str, arguments: dict[str, Any]) -> bool:
    """Whether a test with these fixtures has something to say of the case."""
    task = ENVS[env_id].load_task()
    if "episodes_per_trial" in fixtures:
        return task.supports_new_task
    references = ENVS[env_id].describe(**arguments)
    optimal, memoryless = references.optimal_return, references.memoryless_return
    if "optimal_play" in fixtures:
        return optimal.kind == "exact"
    if "memoryless_play" in fixtures:
        return memoryless.kind == "exact"
    if "known_returns" in fixtures:
        return None not in (optimal.value, memoryless.value)
    return True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"env_id", "arguments"} <= set(metafunc.fixturenames):
        cases = CASES[not WITH_VARIANTS.isdisjoint(metafunc.fixturenames)]
        cases = [case for case in cases if is_meant(metafunc.fixturenames, *case.values)]
        metafunc.parametrize(("env_id", "arguments"), cases)


def play_of_the_task(plays: dict[str, Any], env_id: str) -> Any:
    task = ENVS[env_id].task
    return next((play for other, play in plays.items() if ENVS[other].task == task), None)


@pytest.fixture
def known_returns(env_id: str, arguments: dict[str, Any]) -> tuple[float, float]:
    """The optimal and the memoryless return, where both are known."""
    references = ENVS[env_id].describe(**arguments)
    return references.optimal_return.value, references.memoryless_return.value


@pytest.fixture
def optimal_play(env_id: str) -> Any:
    return play_of_the_task(OPTIMAL, env_id)


@pytest.fixture
def memoryless_play(env_id: str) -> Any:
    return play_of_the_task(MEMORYLESS, env_id)


@pytest.fixture
def over_variants() -> None:
    """Asks for the variants of the tasks in the default tier too."""
