"""Every registered task can be trained on as it is."""

import csv
from pathlib import Path

import pytest

import rlstm
from rlstm.envs import ENVS

STEPS = 20_480


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ENVS)
def test_a_ppo_run_of_20_000_steps_finishes_and_its_rollouts_replay(env_id, tmp_path):
    result = rlstm.train(
        "ppo",
        env=env_id,
        run_dir=str(tmp_path / "run"),
        total_steps=STEPS,
        num_envs=16,
        hidden_size=32,
        eval_every=0,
        eval_episodes=4,
        num_threads=1,
        ui="none",
    )
    assert result.steps == STEPS
    with (Path(result.run_dir) / "progress.csv").open() as file:
        errors = [float(row["train/first_ratio_error"] or "nan") for row in csv.DictReader(file)]
    known = [error for error in errors if error == error]  # The first rollout only fills the normalisers.
    assert len(known) >= STEPS // (16 * 128) - 1
    assert known[0] <= 1e-5
    assert max(known) <= 1e-4
