"""The table of seeds: what is read of a run that another process writes, and when a line is printed."""

import io
import math

from rich.console import Console

from rlstm.training.loggers import CSVLogger, cut_csv
from rlstm.training.seeds_table import ProgressTail, Row, SeedsDisplay, draw, seeds_display


def test_the_last_known_values_are_read_as_they_are_written(tmp_path) -> None:
    tail = ProgressTail(tmp_path / "progress.csv")
    assert tail.read() == {}
    logger = CSVLogger(tail.path)
    logger.log({"rollout/ep_rew_mean": 1.0, "time/time_elapsed": 2.0}, 100)
    assert tail.read() == {"step": 100, "rollout/ep_rew_mean": 1.0, "time/time_elapsed": 2.0}
    logger.log({"eval/mean_reward": 3.0}, 200)  # Which widens the file.
    assert tail.read() == {"step": 200, "rollout/ep_rew_mean": 1.0, "time/time_elapsed": 2.0, "eval/mean_reward": 3.0}
    logger.log({"rollout/ep_rew_mean": math.nan, "time/time_elapsed": 4.0}, 300)
    row = Row(0, "training", total_steps=400)
    tail.update(row)
    assert (row.steps, row.steps_per_second, row.mean_return, row.eval_return) == (300, 75.0, 1.0, 3.0)
    logger.close()
    cut_csv(tail.path, 100)
    assert (tail.read()["step"], "eval/mean_reward" in tail.values) == (100, False)


def test_half_a_row_waits_for_its_end(tmp_path) -> None:
    tail = ProgressTail(tmp_path / "progress.csv")
    tail.path.write_text("step,a\n1,10\n2,2")
    assert tail.read() == {"step": 1, "a": 10}
    with tail.path.open("a") as file:
        file.write("0\n")
    assert tail.read() == {"step": 2, "a": 20}


def lines_of(*shown: Row) -> list[str]:
    console = Console(file=io.StringIO(), width=40)
    display = SeedsDisplay(console)
    for row in shown:
        display.show([row])
    return console.file.getvalue().splitlines()


def test_a_line_is_due_when_a_state_changes_and_at_each_tenth() -> None:
    training = [Row(1, "training", steps, 1000, mean_return=1.25) for steps in (0, 60, 110, 150, 450)]
    lines = lines_of(Row(1, total_steps=1000), *training, Row(1, "failed", 450, 1000, error="no such env"))
    assert lines == [
        "seed 1: training | step 0/1,000 | return 1.25",
        "seed 1: training | step 110/1,000 | return 1.25",
        "seed 1: training | step 450/1,000 | return 1.25",
        "seed 1: failed | step 450/1,000 | no such env",
    ]


def test_the_table_has_a_row_for_each_seed() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(draw([Row(0, "done", 100, 100, 1234.5, 0.5, 0.25, 0.75), Row(7, total_steps=100)]))
    _, done, waiting = (line.split() for line in console.file.getvalue().splitlines())
    assert done == ["0", "100", "/", "100", "1,234", "0.5", "25.0", "%", "0.75", "done"]
    assert waiting == ["7", "0", "/", "100", "waiting"]


def test_no_display_says_nothing(capsys) -> None:
    with seeds_display("none") as display:
        display.show([Row(0, "failed", error="no such env")])
        display.message("a word")
    assert capsys.readouterr() == ("", "")
