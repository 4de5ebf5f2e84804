"""The comparison of speeds: turns of processes count whole updates; CleanRL's pattern learns what it acted on."""

import itertools
import sys
import time
from pathlib import Path

import pytest
import torch

from rlstm.losses.returns import gae
from scripts.benchmarks import recurrent_ppo
from scripts.benchmarks.peers import cleanrl_pattern, sample_factory_appo
from scripts.benchmarks.peers.worker import MINIBATCHES, NUM_STEPS

TRAINER = """
import json, time
print(json.dumps({"torch": "0"}), flush=True)
for number in range(10**6):
    time.sleep(0.02)
    print(json.dumps({"steps": 10, "clock": time.monotonic(), "collect": 0.01, "number": number}), flush=True)
"""


@pytest.fixture
def worker(tmp_path: Path):
    made = recurrent_ppo.Worker([sys.executable, "-c", TRAINER], tmp_path)
    yield made
    made.close()


def test_a_turn_counts_the_updates_between_its_first_and_its_last_line(worker) -> None:
    worker.warm_up()
    assert worker.versions == {"torch": "0"}
    turn = worker.turn(0.2)
    assert turn["steps"] == 10 * turn["updates"]
    assert turn["collect"] == pytest.approx(0.01 * turn["updates"])
    assert turn["seconds"] >= 0.2
    assert turn["seconds"] >= 0.02 * turn["updates"], "more updates than fit between the lines"


def test_a_process_is_stopped_but_for_its_turns_and_the_stop_is_not_timed(worker) -> None:
    worker.warm_up()
    last = worker.turn(0.0)["number"]
    time.sleep(0.5)
    before = time.monotonic()
    turn = worker.turn(0.0)
    assert turn["updates"] == 1
    assert turn["number"] <= last + 5, "it went on while it was stopped"
    assert turn["seconds"] <= time.monotonic() - before


def test_a_process_that_ends_by_itself_is_named_with_what_it_said(tmp_path: Path) -> None:
    broken = recurrent_ppo.Worker([sys.executable, "-c", "raise OSError('the cable is out')"], tmp_path)
    with pytest.raises(SystemExit, match=r"(?s)OSError.*ended by itself:.*the cable is out"):
        broken.warm_up()
    broken.close()


def test_ours_and_cleanrl_s_pattern_are_measured_by_the_same_rows() -> None:
    chosen = [one for one in recurrent_ppo.IMPLEMENTATIONS if one.title in ("rlstm", "CleanRL's pattern")]
    pythons = dict.fromkeys(("rlstm", "cleanrl"), sys.executable)
    rows = recurrent_ppo.measure(chosen, pythons, num_envs=4, num_threads=1, turns=1, length=0.0)
    assert [row["implementation"] for row in rows] == ["rlstm", "CleanRL's pattern"]
    for row in rows:
        assert row["steps"] == NUM_STEPS * 4
        assert float(row["steps_per_second"]) == pytest.approx(row["steps"] / float(row["seconds"]), rel=0.05)
        assert set(row) <= set(recurrent_ppo.COLUMNS)
        assert row["torch"] == torch.__version__
    assert 0 < float(rows[0]["floor_share"]) < 1


def row(title: str, threads: int, envs: int, rate: float) -> dict[str, str]:
    return {"implementation": title, "threads": f"{threads}", "num_envs": f"{envs}", "steps_per_second": f"{rate}"}


def test_the_table_has_medians_of_turns_and_ratios_to_ours() -> None:
    rows = [row("rlstm", 1, 8, rate) for rate in (1000, 9000, 3000)]
    rows += [row("CleanRL's pattern", 1, 8, rate) for rate in (600, 100, 900)] + [row("rlstm", 2, 8, 4000)]
    lines = recurrent_ppo.table(rows).splitlines()
    assert lines[0] == "|  | 8 envs, 1 thread | 8 envs, 2 threads |"
    assert lines[2:] == ["| rlstm | 3,000 | 4,000 |", "| CleanRL's pattern | 600 (5.0x) | - |"]


def test_interpreters_are_checked_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="unknown name 'sb3'; there are rlstm, sb3-contrib"):
        recurrent_ppo.find_pythons(["sb3=/bin/python"])
    with pytest.raises(SystemExit, match="can't be started"):
        recurrent_ppo.find_pythons(["sample-factory=/nowhere/python"])
    with pytest.raises(SystemExit, match="has no package 'sample_factory'"):
        recurrent_ppo.find_pythons([f"sample-factory={sys.executable}"])
    assert {"rlstm", "cleanrl"} <= set(recurrent_ppo.find_pythons([]))
    assert "sample-factory is left out" in capsys.readouterr().out


@pytest.fixture
def played():
    """A network, and a rollout of 4 envs in which episodes end."""
    torch.manual_seed(0)
    network, player = cleanrl_pattern.Network(2, 2), cleanrl_pattern.Player(4, 0)
    player.collect(network)
    rollout = player.collect(network)
    player.envs.close()
    assert rollout["dones"].any()
    assert rollout["state"][0].any()
    return network, rollout


def test_the_pattern_replays_what_it_acted_on(played) -> None:
    """The first ratio is 1, so the states and resets of training are those of acting."""
    network, rollout = played
    hidden, _ = network.memory(rollout["observations"], rollout["state"], rollout["dones"])
    choice = torch.distributions.Categorical(logits=network.policy_head(hidden))
    torch.testing.assert_close(choice.log_prob(rollout["actions"]), rollout["log_probs"], rtol=0, atol=1e-5)
    torch.testing.assert_close(network.value_head(hidden).squeeze(-1), rollout["values"], rtol=0, atol=1e-5)


def test_the_pattern_forgets_where_an_episode_begins() -> None:
    torch.manual_seed(0)
    network, observations, dones = cleanrl_pattern.Network(2, 2), torch.randn(6, 3, 2), torch.zeros(6, 3)
    dones[4, 1] = 1
    whole, _ = network.memory(observations, cleanrl_pattern.init_state(3), dones)
    anew, _ = network.memory(observations[4:], cleanrl_pattern.init_state(3), dones[4:])
    torch.testing.assert_close(whole[4:, 1], anew[:, 1])
    assert not torch.allclose(whole[4:, 0], anew[:, 0])


def test_the_pattern_s_advantages_are_ours() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 9, 3, generator=generator)
    last, last_done = torch.randn(3, generator=generator), torch.tensor([1.0, 0.0, 0.0])
    dones = (torch.rand(9, 3, generator=generator) < 0.3).float()
    cuts = torch.cat([dones[1:], last_done[None]]).bool()
    next_values = torch.where(cuts, 0.0, torch.cat([values[1:], last[None]]))
    ours = gae(rewards, values, next_values, cuts, gamma=cleanrl_pattern.GAMMA, gae_lambda=cleanrl_pattern.LAMBDA)
    found = cleanrl_pattern.advantages(rewards, values, dones, last, last_done)
    torch.testing.assert_close(found, ours, rtol=1e-5, atol=1e-5)


def test_the_pattern_learns_from_minibatches_of_whole_envs(played, monkeypatch: pytest.MonkeyPatch) -> None:
    network, rollout = played
    seen = []
    loss = cleanrl_pattern.losses
    monkeypatch.setattr(cleanrl_pattern, "losses", lambda n, r, rows: seen.append(rows.tolist()) or loss(n, r, rows))
    before = [parameter.clone() for parameter in network.parameters()]
    cleanrl_pattern.learn(network, torch.optim.Adam(network.parameters()), rollout)
    assert len(seen) == cleanrl_pattern.EPOCHS * MINIBATCHES
    for epoch in range(cleanrl_pattern.EPOCHS):
        rows = seen[epoch * MINIBATCHES : (epoch + 1) * MINIBATCHES]
        assert sorted(itertools.chain(*rows)) == [0, 1, 2, 3]
    assert all((now != then).any() for now, then in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("form", ["serial", "async"])
def test_sample_factory_learns_from_as_much_as_the_others(form: str) -> None:
    words = dict(word[2:].split("=") for word in sample_factory_appo.words(form, 16, 2, 0, "DIR") if "=" in word)
    assert int(words["num_workers"]) * int(words["num_envs_per_worker"]) == 16
    assert int(words["batch_size"]) * int(words["num_batches_per_epoch"]) == 16 * NUM_STEPS
    assert int(words["num_envs_per_worker"]) % int(words["worker_num_splits"]) == 0
    assert words["serial_mode"] != words["async_rl"]
