"""``rlstm plot`` and ``rlstm compare``: what they print, as text and as JSON."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.kit import write_run


@pytest.fixture
def runs(workplace: Path) -> Path:
    """Two seeds of an LSTM, and two of a GRU that is better."""
    for cell, ends in {"lstm": (1.0, 2.0), "gru": (2.0, 4.0)}.items():
        for seed, end in enumerate(ends):
            write_run(f"runs/{cell}/{seed}", seed, {100: 0.0, 200: end}, cell=cell)
    return workplace / "runs"


def test_curves_are_a_table_with_a_line_a_group(rlstm, runs: Path) -> None:
    result = rlstm("plot runs")
    assert result.code == 0
    head, _, titles, _, gru, lstm, _, scale = result.out.splitlines()
    assert head == "rlstm/TMaze-v0, eval/mean_reward; best without memory 1.95; best possible 4"
    assert titles.split()[:2] == ["group", "seeds"]
    assert gru.split()[:7] == ["cell=gru", "2", "3", "[2,", "4]", "3", "at"]
    assert lstm.split()[:5] == ["cell=lstm", "2", "1.5", "[1,", "2]"]
    assert (gru[-1], lstm[-1]) == ("█", "▅")  # Of one scale: 1.5 is half of 3.
    assert scale == "Curves go up to step 200, and from 0 to 3."


def test_curves_are_numbers_for_programs(rlstm, runs: Path) -> None:
    answer = rlstm("plot runs --json").json
    assert (answer["env"], answer["metric"], answer["file"]) == ("rlstm/TMaze-v0", "eval/mean_reward", None)
    assert (answer["memoryless_return"], answer["optimal_return"]) == (1.95, 4.0)
    gru = answer["groups"][0]
    assert (gru["label"], gru["seeds"], gru["finals"]) == ("cell=gru", [0, 1], [2.0, 4.0])
    assert (gru["final"], gru["final_low"], gru["final_high"]) == (3.0, 2.0, 4.0)
    assert (gru["highest"], gru["highest_step"], gru["steps"]) == (3.0, 200, 200)
    assert gru["curve"] == {"steps": [100, 200], "iqm": [0.0, 3.0], "low": [0.0, 2.0], "high": [0.0, 4.0]}
    single = rlstm("plot runs/gru/0 --json").json["groups"][0]
    assert (single["final"], single["final_low"], single["curve"]["low"]) == (2.0, None, None)


def test_a_figure_is_written_and_said(rlstm, runs: Path) -> None:
    pytest.importorskip("matplotlib")
    result = rlstm("plot runs --out curves.svg")
    assert (result.code, result.out.splitlines()[-1]) == (0, "Written to curves.svg.")
    assert "cell=gru (2 seeds)" in Path("curves.svg").read_text()


def test_errors_have_one_line_and_their_code(rlstm, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run("pole", 0, {100: 1.0}, env="CartPole-v1")
    refusals = {
        "plot": (2, "No run is given"),
        "plot runs --out curves.jpg": (2, "must end in one of .png, .svg, .pdf"),
        "plot runs pole": (2, "CartPole-v1, rlstm/TMaze-v0"),
        "plot runs --metric eval/mean": (2, "Did you mean 'eval/mean_reward'?"),
        "plot missing": (1, "missing does not exist"),
        "compare runs/gru": (2, "There is one group"),
        "compare runs --ablate --episodes 0": (2, "--episodes is 0"),
    }
    for words, (code, text) in refusals.items():
        result = rlstm(words)
        assert (result.code, result.out) == (code, ""), words
        assert text in result.err
        assert result.err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = rlstm("plot runs --out curves.png")
    assert (result.code, Path("curves.png").exists()) == (1, False)
    assert "pip install 'rlstm-torch[plot]'" in result.err


def test_groups_are_compared_with_the_first_argument(rlstm, runs: Path) -> None:
    answer = rlstm("compare runs/lstm runs/gru --json").json
    assert answer["threshold"] == pytest.approx(1.5 + 0.9 * 1.5)
    lstm, gru = answer["groups"]
    assert (lstm["label"], lstm["improvement"], lstm["steps_to_threshold"]) == ("cell=lstm", None, None)
    assert (gru["improvement"], gru["improvement_low"], gru["improvement_high"]) == (0.875, 0.5, 1.0)
    assert gru["steps_to_threshold"] == 200
    assert "memory_loss" not in gru


def test_a_comparison_is_a_table_and_says_its_threshold(rlstm, runs: Path) -> None:
    lines = rlstm("compare runs/lstm runs/gru").out.splitlines()
    assert lines[4].split() == ["cell=lstm", "2", "1.5", "[1,", "2]", "never", "200"]
    assert lines[5].split() == ["cell=gru", "2", "3", "[2,", "4]", "0.875", "[0.5,", "1]", "200", "200"]
    assert lines[-1] == "Threshold 2.85: 90 % of the way from the worst final to the best."
    lines = rlstm("compare runs/lstm runs/gru --threshold 1 --markdown").out.splitlines()
    assert lines[2] == "| group | seeds | final, IQM [95 %] | P(better) | steps to 1 | steps |"
    assert lines[4] == "| cell=lstm | 2 | 1.5 [1, 2] |  | 200 | 200 |"
    assert lines[-1] == "Threshold 1: given."


def test_ablation_compares_every_run_with_itself(rlstm, trained: Path) -> None:
    shutil.copytree(trained, "run", symlinks=True)
    words = "--episodes 6 --json"
    answer = rlstm(f"compare run --ablate {words}").json
    (group,) = answer["groups"]
    means = [rlstm(f"evaluate run {words}{flag}").json["mean_return"] for flag in ("", " --ablate-memory")]
    assert [*group["intact_returns"], *group["ablated_returns"]] == means
    assert (group["memory_loss"], group["memory_loss_low"]) == (pytest.approx(means[0] - means[1]), None)
    assert "lost without memory" in rlstm("compare run --ablate --episodes 6").out
