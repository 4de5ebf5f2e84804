"""Claims about `rlstm.training.progress`: what is shown, how often, and that the terminal is left as it was."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from rlstm.training.progress import UI, Progress, RichProgress, make_progress, sparkline

SUMMARY = {"env": "Recall-v0", "agent": "ppo", "cell": "lstm", "run dir": "runs/Recall-v0/" + "deep/" * 20 + "ppo-s1"}
METRICS = {"rollout/ep_rew_mean": 1.5, "train/value_loss": 0.25, "time/fps": 9.0}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(file=EncodedText(), force_terminal=True, width=width, height=height, record=True, _environ={})


class EncodedText(io.StringIO):
    encoding = "utf-8"


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def last_frame(console: Console) -> list[str]:
    """The lines of the last drawing, without control sequences."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output(console)).replace("\r", "").splitlines()
    return lines[max(index for index, line in enumerate(lines) if "rlstm" in line) :]


def run_rich(console: Console, metrics: dict[str, float] = METRICS, seconds: float = 100.0) -> None:
    clock = Clock()
    with RichProgress(console, clock) as progress:
        progress.start(SUMMARY, 10_000)
        for index in range(1, 6):
            clock.now += seconds / 5
            mean_return = {"rollout/ep_rew_mean": float(index)}
            progress.update(1_000 * index, metrics | mean_return, {"collect": 12.0 * index, "update": 4.0 * index})


def test_plain_output_says_what_how_far_how_well_and_how_fast() -> None:
    console, clock = plain_console(), Clock()
    with Progress(console, clock) as progress:
        progress.start({"env": "Recall-v0", "agent": "ppo"}, 10_000)
        clock.now += 10
        progress.update(1_000, {"rollout/ep_rew_mean": 1.25, "eval/mean_reward": 3.0}, {"collect": 8.0})
    assert output(console).splitlines() == [
        "env Recall-v0 | agent ppo | 10,000 steps",
        "step 1,000/10,000 (10 %) | return 1.25 | eval return 3 | 100 steps/s | elapsed 0:00:10 | left 0:01:30",
    ]


@pytest.mark.parametrize(
    ("seconds", "steps", "lines"),
    [
        (0.001, 1, 1 + 19 + 1),  # Fast: the first, then each 5 % (50 steps) reached, the last among them.
        (1.0, 0.001, 1 + 199 + 1),  # Slow: the first, then one each 5 s, and the last.
    ],
)
def test_plain_lines_come_every_five_seconds_or_five_percent(seconds: float, steps: float, lines: int) -> None:
    console, clock = plain_console(), Clock()
    num_updates = 1000
    with Progress(console, clock) as progress:
        progress.start({}, 1000)
        for index in range(1, num_updates + 1):
            clock.now += seconds
            progress.update(int(index * steps), {}, {})
    assert len(output(console).splitlines()) == pytest.approx(1 + lines, abs=1)


def test_plain_output_has_the_first_and_the_last_update_once() -> None:
    console, clock = plain_console(), Clock()
    progress = Progress(console, clock)
    progress.start({}, 1000)
    for step in (10, 20, 30):
        clock.now += 0.1
        progress.update(step, {}, {})
    progress.close()
    progress.close()
    assert re.findall(r"step (\d+)/", output(console)) == ["10", "30"]


def test_a_resumed_run_is_not_credited_with_the_steps_done_before() -> None:
    console, clock = plain_console(), Clock()
    progress = Progress(console, clock)
    progress.start({}, 10_000, initial_step=5_000)
    clock.now += 10
    progress.update(6_000, {}, {})
    assert "6,000/10,000 (60 %) | 100 steps/s | elapsed 0:00:10 | left 0:00:40" in output(console)


def test_speed_follows_the_last_half_minute() -> None:
    console, clock = plain_console(), Clock()
    progress = Progress(console, clock)
    progress.start({}, 100_000)
    for step in range(0, 1_000, 10):
        clock.now += 10
        progress.update(step, {}, {})
    for step in range(1_000, 41_000, 1_000):
        clock.now += 1
        progress.update(step, {}, {})
    assert "1,000 steps/s" in output(console).splitlines()[-1]


def test_updates_rarer_than_half_a_minute_have_a_speed() -> None:
    console, clock = plain_console(), Clock()
    progress = Progress(console, clock)
    progress.start({}, 10_000)
    for step in (1_000, 3_000):
        clock.now += 100
        progress.update(step, {}, {})
    assert "20 steps/s | elapsed 0:03:20 | left 0:05:50" in output(console).splitlines()[-1]


@pytest.mark.parametrize("factory", [plain_console, terminal])
def test_messages_appear_literally(factory: Callable[[], Console]) -> None:
    console = factory()
    with make_progress("rich", console=console) as progress:
        progress.start(SUMMARY, 100)
        progress.message("saved [bold]step_10[/bold] :smile: " + "x" * 100)
    assert "saved [bold]step_10[/bold] :smile: " + "x" * 100 in output(console)


def test_none_shows_nothing() -> None:
    console = terminal()
    with make_progress("none", console=console) as progress:
        progress.start(SUMMARY, 100)
        progress.message("text")
        progress.update(100, METRICS, {})
    assert output(console) == ""


def test_none_writes_nothing_to_either_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with make_progress("none") as progress:
        progress.start(SUMMARY, 100)
        progress.message("text")
        progress.update(100, METRICS, {})
    assert tuple(capfd.readouterr()) == ("", "")


def test_everything_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with make_progress("auto") as progress:
        progress.start(SUMMARY, 100)
        progress.message("text")
        progress.update(100, METRICS, {})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 100/100 (100 %)" in captured.err


def test_auto_is_rich_on_a_terminal_and_plain_in_ci_or_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert type(make_progress("auto", console=terminal())) is RichProgress
    assert type(make_progress("auto", console=plain_console())) is Progress
    assert type(make_progress("plain", console=terminal())) is Progress
    assert type(make_progress("rich", console=plain_console())) is Progress
    monkeypatch.setenv("CI", "true")
    assert type(make_progress("auto", console=terminal())) is Progress
    assert type(make_progress("rich", console=terminal())) is RichProgress


def test_an_unknown_ui_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"ui is 'fancy'.*auto, rich, plain, none"):
        make_progress("fancy")  # type: ignore[arg-type]


def test_the_display_has_summary_time_and_metrics() -> None:
    console = terminal()
    run_rich(console)
    text = "\n".join(last_frame(console))
    for expected in (
        "env      Recall-v0", "agent    ppo", "cell     lstm", "ppo-s1 │", "50 %  5,000 / 10,000 steps",
        "50 steps/s   elapsed 0:01:40   left 0:01:40", "mean return 5  ▁▃▅▆█", "train/value_loss", "0.25",
    ):  # fmt: skip
        assert expected in text
    assert re.search(r"collect +01:00 +60 %", text)
    assert re.search(r"update +00:20 +20 %", text)
    assert re.search(r"other +00:20 +20 %", text)
    assert "time/fps" not in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (120, 50), (20, 10)])
def test_the_display_neither_wraps_nor_outgrows_the_terminal(width: int, height: int) -> None:
    console = terminal(width, height)
    run_rich(console, METRICS | {f"train/a_metric_with_a_rather_long_name_{index}": 1e-9 for index in range(60)})
    frame = last_frame(console)
    assert {len(line) for line in frame} == {width}
    assert len(frame) < height
    assert all(line[0] in "╭│╰" and line[-1] in "╮│╯" for line in frame)
    if (width, height) == (80, 24):
        assert any(re.search(r"and \d+ more", line) for line in frame)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_cursor_comes_back_after_an_exception(error: type[BaseException]) -> None:
    console = terminal()

    def fail() -> None:
        with RichProgress(console) as progress:
            progress.start(SUMMARY, 100)
            raise error

    with pytest.raises(error):
        fail()
    shown, hidden = output(console).rfind("\x1b[?25h"), output(console).rfind("\x1b[?25l")
    assert shown > hidden >= 0


def test_unknown_metrics_keep_their_last_value_and_nan_breaks_nothing() -> None:
    console = terminal()
    with RichProgress(console) as progress:
        progress.start({}, 0)
        progress.update(1, {"eval/mean_reward": 7.0, "rollout/ep_rew_mean": float("nan")}, {})
        progress.update(2, {"rollout/ep_rew_mean": None, "train/loss": float("inf")}, {})
    text = "\n".join(last_frame(console))
    assert re.search(r"eval/mean_reward +7 ", text)
    assert re.search(r"train/loss +inf ", text)


def test_a_sparkline_spans_lowest_to_highest_and_averages_what_does_not_fit() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([0, 2, 3, 5, 1, 1], 3) == "▁█▁"
    assert sparkline([3, 3], 10) == "▁▁"
    assert sparkline([3, 3], 10, bounds=(3, 3)) == "▁▁"
    assert sparkline([3, 7], 10, bounds=(0, 7)) == "▄█"
    assert sparkline([], 10) == sparkline([1], 0) == ""


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), None])
@pytest.mark.parametrize("ui", ["plain", "rich"])
def test_a_display_that_can_not_be_written_ends_nothing(
    ui: UI, error: OSError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `2>&1 | head -1`, with a full disk, when the terminal is gone, and with stderr closed."""

    class Gone(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            assert error is not None
            raise error

    monkeypatch.setattr(sys, "stderr", None if error is None else Gone())
    monkeypatch.setenv("TERM", "xterm")
    with make_progress(ui) as progress:
        progress.start({"agent": "ppo"}, 100)
        progress.update(50, {"rollout/ep_rew_mean": 1.0}, {"play": 1.0})
        progress.message("news")
