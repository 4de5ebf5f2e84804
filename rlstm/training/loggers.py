"""Where metrics go: `progress.csv`, TensorBoard, or both.

Conventions: a metric has one name ("rollout/ep_rew_mean"), in TensorBoard and as its column in the CSV; the x-axis is
always environment steps. One call of `log` is one row. A value that is None, NaN or infinite isn't known: it is an
empty cell in the CSV and no point in TensorBoard. When a run is resumed from the checkpoint of step N, both forget what
came later: `cut_csv(path, N)` before `CSVLogger(path)`, and `TensorBoardLogger(directory, purge_step=N + 1)`.

The one exception are curves over the episodes of a trial: `write_curves` gives each evaluation an event file in a
folder of its own, a run of TensorBoard's beside the run, where x is the place of an episode in its trial, from 1.
"""

from __future__ import annotations

import csv
import io
import math
import numbers
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlstm.core.files import write_atomically

FloatArray = npt.NDArray[np.float64]

LAYOUT: dict[str, dict[str, tuple[str, list[str]]]] = {
    "Return": {
        "mean return": ("Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]),
        "success rate": ("Multiline", ["rollout/success_rate", "eval/success_rate"]),
    },
    "Losses": {
        "policy gradient": ("Multiline", ["train/policy_gradient_loss"]),
        "value": ("Multiline", ["train/value_loss"]),
        "entropy": ("Multiline", ["train/entropy_loss"]),
    },
    "Update": {
        "approximate KL": ("Multiline", ["train/approx_kl"]),
        "error of the first ratio": ("Multiline", ["train/first_ratio_error"]),
    },
    "Memory": {"recurrent": ("Multiline", ["recurrent/.*"])},
    "Evolino": {"fitness": ("Multiline", ["evolino/(best|mean|median|champion)$"])},
}
"""The charts of TensorBoard's tab "Custom Scalars": category -> title -> kind and patterns of metric names."""

HPARAM_METRICS = ("rollout/ep_rew_mean", "eval/mean_reward")


class MetricSink(Protocol):
    """Something that takes metrics."""

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Record the metrics known after `step` environment steps."""

    def flush(self) -> None:
        """Make what was logged visible to readers."""

    def close(self) -> None:
        """Flush and release the files; a second call does nothing."""


class CSVLogger:
    """Writes `progress.csv`: first column `step`, then a column a metric, in the order of their first appearance.

    A metric that appears later widens the file: it is rewritten with empty cells in the earlier rows. An existing file
    is continued; the half row that a crash may have left at its end is dropped.

    Raises:
        ValueError: If the file exists and isn't one of these.
        OSError: If the file can't be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._columns, rows = read_csv(self.path)
        _write_rows(self.path, self._columns, rows)
        self._file = self.path.open("a", newline="", encoding="utf-8")

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Append a row; it is on disk, for other programs to read, when this returns."""
        new_columns = [name for name in metrics if name not in self._columns]
        if new_columns:
            self._file.close()
            self._columns += new_columns
            _write_rows(self.path, self._columns, read_csv(self.path)[1])
            self._file = self.path.open("a", newline="", encoding="utf-8")
        row = {name: _cell(value) for name, value in metrics.items()} | {"step": str(int(step))}
        csv.DictWriter(self._file, self._columns, restval="", lineterminator="\n").writerow(row)
        self._file.flush()

    def flush(self) -> None:
        """Do nothing: every row is flushed."""

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()


def cut_csv(path: str | os.PathLike[str], step: int) -> None:
    """Remove the rows later than `step` from a `progress.csv`, atomically; a missing file stays missing.

    Raises:
        ValueError: If the file isn't one that `CSVLogger` wrote.
    """
    if Path(path).exists():
        columns, rows = read_csv(Path(path))
        _write_rows(Path(path), columns, [row for row in rows if int(row["step"]) <= step])


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and the complete rows, each shorter than the header where the header has grown since.

    Raises:
        ValueError: If the file isn't one that `CSVLogger` wrote.
    """
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    header, *rows = csv.reader(io.StringIO(content[: content.rfind("\n") + 1])) if "\n" in content else (["step"],)
    if header[:1] != ["step"]:
        raise ValueError(f"{path} is not a log of rlstm: its first column is {header[:1]}, not 'step'. Move it away.")
    return header, [dict(zip(header, row, strict=False)) for row in rows if row and row[0].isdecimal()]


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _cell(value: Any) -> str:
    """Format exactly: `float(cell)` is the value again."""
    if not _known(value):
        return ""
    return str(int(value)) if isinstance(value, numbers.Integral) else repr(float(value))


class TensorBoardLogger:
    """Writes one event file a process into the run directory.

    Args:
        directory: The run directory.
        purge_step: When a run is resumed: TensorBoard hides the earlier points of this step and later ones, so give the
            checkpoint's step + 1.
    """

    def __init__(self, directory: str | os.PathLike[str], purge_step: int | None = None) -> None:
        # Imported here: it takes a second, and most that import this module don't need it.
        from torch.utils.tensorboard import SummaryWriter

        # The layout and the hyperparameters belong to the run, not to a step: the first process has written them.
        self._is_first = not any(Path(directory).glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(os.fspath(directory), purge_step=purge_step, flush_secs=30)
        if self._is_first:
            self._writer.add_custom_scalars(LAYOUT)
        self._writer.flush()

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Add a point for every known metric."""
        for name, value in metrics.items():
            if value is not None and _known(value):
                self._writer.add_scalar(name, float(value), int(step))

    def log_hyperparameters(self, config: Mapping[str, Any], metrics: Sequence[str] = HPARAM_METRICS) -> None:
        """Fill a row of TensorBoard's tab "HParams"; do nothing if an earlier process of the run has done it.

        `SummaryWriter.add_hparams` would start a run of its own, so the three summaries are written to this event file.

        Args:
            config: The config; nested keys are joined by dots, anything but a number, bool or text becomes text.
            metrics: Names of metrics to show beside it, which the run logs as scalars.
        """
        from torch.utils.tensorboard.summary import hparams

        if self._is_first:
            event_file: Any = self._writer.file_writer
            for summary in hparams(dict(_flatten(config)), dict.fromkeys(metrics, 0.0)):
                event_file.add_summary(summary)
            self._writer.flush()

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Write texts by their titles, in Markdown, to TensorBoard's tab "Text"; as ``log_hyperparameters``, once."""
        if self._is_first:
            for title, text in texts.items():
                self._writer.add_text(title, text)

    def log_film(self, name: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Write an animation, ``size`` its height and width, to TensorBoard's tab "Images"."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=gif)
        event_file: Any = self._writer.file_writer
        event_file.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), int(step))

    def flush(self) -> None:
        """Write the pending points to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file; a second call does nothing."""
        self._writer.close()


def write_curves(directory: str | os.PathLike[str], curves: Mapping[str, Sequence[float] | FloatArray]) -> None:
    """Write curves over the episodes of a trial into a folder of their own, replacing what it held.

    A curve holds the values of the first, second, ... episode, (K,), drawn at x = 1, ..., K.
    """
    from torch.utils.tensorboard import SummaryWriter

    if Path(directory).exists():
        shutil.rmtree(directory)
    with SummaryWriter(os.fspath(directory)) as writer:
        for name, values in curves.items():
            for place, value in enumerate(values, start=1):
                if _known(value):
                    writer.add_scalar(name, float(value), place)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, (bool, int, float, str)) else str(value)


class LoggerGroup(ExitStack):
    """Hands everything to several sinks; ``close``, or the end of its context, closes all of them despite errors."""

    def __init__(self, *sinks: MetricSink) -> None:
        super().__init__()
        self.sinks = sinks
        for sink in sinks:
            self.callback(sink.close)

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Log to every sink."""
        for sink in self.sinks:
            sink.log(metrics, step)

    def log_film(self, name: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        """Hand a film to every sink that shows one."""
        for sink in self.sinks:
            if isinstance(sink, TensorBoardLogger):
                sink.log_film(name, gif, size, step)

    def flush(self) -> None:
        """Flush every sink."""
        for sink in self.sinks:
            sink.flush()
