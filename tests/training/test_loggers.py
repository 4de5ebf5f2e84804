"""Claims about `rlstm.training.loggers`: what is logged can be read back, also after a run was resumed."""

from __future__ import annotations

import csv
import errno
import io
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

import rlstm
from rlstm.agents import AGENTS
from rlstm.training import event_files, loggers
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.loggers import (
    HPARAM_METRICS,
    LAYOUT,
    CSVLogger,
    LoggerGroup,
    TensorBoardLogger,
    cut_csv,
    write_curves,
)
from rlstm.training.run_directory import RunDirectory, RunDirectoryError
from tests import kit


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def events(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(directory: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(directory).Scalars(name)]


def test_csv_columns_are_step_and_the_metrics_and_values_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    logger = CSVLogger(path)
    logger.log({"rollout/ep_rew_mean": 0.1 + 0.2, "time/fps": 1200, "train/loss": float(np.float32(0.1)), "n": 7}, 64)
    assert path.read_text() == (
        "step,rollout/ep_rew_mean,time/fps,train/loss,n\n64,0.30000000000000004,1200,0.10000000149011612,7\n"
    )
    logger.close()
    logger.close()


def test_unknown_values_are_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    logger = CSVLogger(path)
    logger.log({"a": float("nan"), "b": float("inf"), "c": None, "d": -float("inf"), "e": 0.0}, 1)
    logger.close()
    assert path.read_text().splitlines()[1] == "1,,,,,0.0"


def test_a_metric_that_appears_later_widens_the_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    logger = CSVLogger(path)
    logger.log({"a": 1.0}, 1)
    logger.log({"b": 2.0}, 2)
    logger.log({"a": 3.0}, 3)
    logger.close()
    assert path.read_text() == "step,a,b\n1,1.0,\n2,,2.0\n3,3.0,\n"


def test_a_reopened_csv_goes_on_and_drops_the_half_row_of_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("step,a,b\n1,1.0,2.0\n2,1.5")
    logger = CSVLogger(path)
    logger.log({"b": 4.0, "a": 3.0}, 2)
    logger.close()
    assert path.read_text() == "step,a,b\n1,1.0,2.0\n2,3.0,4.0\n"


def test_cutting_removes_exactly_the_rows_after_the_step(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    cut_csv(path, 5)
    assert not path.exists()
    logger = CSVLogger(path)
    for step in (9, 10, 11, 100):
        logger.log({"a": float(step)}, step)
    logger.close()
    cut_csv(path, 10)
    assert [row["step"] for row in rows(path)] == ["9", "10"]
    assert [row["a"] for row in rows(path)] == ["9.0", "10.0"]


def test_a_file_of_another_kind_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("r,l,t\n1,2,3\n")
    with pytest.raises(ValueError, match=r"progress\.csv is not a log of rlstm.*'r'"):
        CSVLogger(path)
    assert path.read_text() == "r,l,t\n1,2,3\n"


def test_tensorboard_has_every_known_value_at_its_environment_step(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log({"rollout/ep_rew_mean": 1.5, "train/loss": float("nan"), "time/fps": None}, 128)
    logger.log({"rollout/ep_rew_mean": np.float64(2.5)}, 3_000_000_000)
    logger.close()
    logger.close()
    assert points(tmp_path, "rollout/ep_rew_mean") == [(128, 1.5), (3_000_000_000, 2.5)]
    assert events(tmp_path).Tags()["scalars"] == ["rollout/ep_rew_mean"]


def test_flush_makes_points_visible_while_the_run_goes_on(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log({"a": 1.0}, 1)
    logger.flush()
    assert points(tmp_path, "a") == [(1, 1.0)]
    logger.close()


def test_after_a_resume_no_step_has_two_points(tmp_path: Path) -> None:
    first = TensorBoardLogger(tmp_path)
    for step in (10, 20, 30, 40):
        first.log({"a": 1.0}, step)
    first.close()
    (written,) = tmp_path.glob("events.out.tfevents.*")
    written.rename(tmp_path / "events.out.tfevents.1.first")  # Files are read by name, which has seconds and a count.
    second = TensorBoardLogger(tmp_path, purge_step=20 + 1)
    for step in (30, 40, 50):
        second.log({"a": 2.0}, step)
    second.close()
    assert points(tmp_path, "a") == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0), (50, 2.0)]


def test_one_event_file_a_process_with_layout_and_hyperparameters_written_once(tmp_path: Path) -> None:
    config = {"learning_rate": 3e-4, "memory": {"lifetime": "trial", "bptt_horizon": None}, "sizes": (64, 64)}
    for process in (1, 2):
        logger = TensorBoardLogger(tmp_path, purge_step=None if process == 1 else 11)
        logger.log_hyperparameters(config)
        logger.log(dict.fromkeys(HPARAM_METRICS, 1.0), 10 * process)
        logger.close()
        assert len(list(tmp_path.iterdir())) == process, "a further file or folder"
    accumulator = events(tmp_path)
    assert len(accumulator.Tensors("custom_scalars__config__")) == 1
    tags = accumulator.Tags()
    assert set(HPARAM_METRICS) <= set(tags["scalars"]), "the metrics of the table exist"
    contents = accumulator.PluginTagToContent(metadata.PLUGIN_NAME)
    start = plugin_data_pb2.HParamsPluginData.FromString(contents[metadata.SESSION_START_INFO_TAG])
    values = start.session_start_info.hparams
    assert values["learning_rate"].number_value == 3e-4
    assert values["memory.lifetime"].string_value == "trial"
    assert values["sizes"].string_value == "(64, 64)"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(contents[metadata.EXPERIMENT_TAG]).experiment
    assert tuple(info.name.tag for info in experiment.metric_infos) == HPARAM_METRICS
    assert metadata.SESSION_END_INFO_TAG in contents


@pytest.fixture(scope="session")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The names of the metrics that a tiny run of each agent logs."""
    maze = {"env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 1}, "num_envs": 4, "hidden_size": 4}
    own = {"evolino": {"population": 4}, "teacher": {"env": "rlstm/AnBn-v0", "env_kwargs": {}, "num_envs": 1}}
    names: dict[str, list[str]] = {}
    for agent in AGENTS:
        path = tmp_path_factory.mktemp("runs") / agent
        run = {"run_dir": str(path), "total_steps": 64, "eval_episodes": 1, "num_threads": 1}
        rlstm.train(agent, ui="none", **{**maze, **own.get(agent, kit.short_rollouts(agent)), **run})
        names[agent] = list(rows(path / "progress.csv")[0])
    adding = tmp_path_factory.mktemp("runs") / "adding"
    rlstm.train("teacher", ui="none", env="rlstm/Adding-v0", **(run | {"run_dir": str(adding)}))
    names["teacher of numbers"] = list(rows(adding / "progress.csv")[0])
    return names


def test_every_pattern_of_the_layout_matches_a_metric_of_some_agent(emitted: dict[str, list[str]]) -> None:
    names = [name for agent in emitted.values() for name in agent]
    patterns = [pattern for charts in LAYOUT.values() for _, found in charts.values() for pattern in found]
    assert [pattern for pattern in patterns if not any(re.match(pattern, name) for name in names)] == []
    (fitness,) = LAYOUT["Evolino"]["fitness"][1]
    shown = {name for name in emitted["evolino"] if re.match(fitness, name)}
    assert shown == {"evolino/best", "evolino/mean", "evolino/median", "evolino/champion"}


def test_the_layout_is_written_as_it_stands(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.close()
    content = events(tmp_path).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    assert [category.title for category in layout.category] == list(LAYOUT)
    shown = {name for category in layout.category for chart in category.chart for name in chart.multiline.tag}
    assert shown == {name for charts in LAYOUT.values() for _, found in charts.values() for name in found}


def test_a_curve_is_drawn_over_its_places_from_1_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "trial_curves" / "step_000000064"
    write_curves(folder, {"trial/return": np.array([0.5, 0.75, 1.0]), "trial/cumulative_regret": [2.0, float("nan")]})
    assert points(folder, "trial/return") == [(1, 0.5), (2, 0.75), (3, 1.0)]
    assert points(folder, "trial/cumulative_regret") == [(1, 2.0)], "what isn't known is no point"
    assert len(list(folder.iterdir())) == 1


def test_a_curve_replaces_the_one_before_in_its_folder(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves", {"a": [1.0, 2.0, 3.0], "b": [4.0]})
    write_curves(tmp_path / "curves", {"a": [5.0, 6.0]})
    assert events(tmp_path / "curves").Tags()["scalars"] == ["a"]
    assert points(tmp_path / "curves", "a") == [(1, 5.0), (2, 6.0)]


# What can't be written.


class Disk:
    """A disk that can be full: it takes so many bytes more, None for all."""

    def __init__(self) -> None:
        self.left: int | None = None

    def write_all(self, file: io.FileIO, content: bytes) -> None:
        if self.left is not None and len(content) > self.left:
            file.write(content[: self.left])
            self.left = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        file.write(content)
        self.left = None if self.left is None else self.left - len(content)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(loggers, "write_all", disk.write_all)
    monkeypatch.setattr(event_files, "write_all", disk.write_all)
    return disk


FULL = r"is not being written: No space left on device \(free some space\)\. Training goes on\."


def test_a_full_disk_is_told_once_and_no_row_is_lost_or_doubled_later(tmp_path: Path, disk: Disk) -> None:
    logger = CSVLogger(tmp_path / "progress.csv")
    logger.log({"a": 1.0}, 1)
    disk.left = 3
    with pytest.warns(UserWarning, match=rf"progress\.csv {FULL}"):
        logger.log({"a": 2.0}, 2)
    logger.log({"a": 3.0}, 3)  # A second warning would be an error.
    disk.left = 9  # Room for one row and a half.
    logger.log({"a": 4.0}, 4)
    disk.left = None
    logger.flush()
    logger.log({"b": 5.0}, 5)
    logger.close()
    assert (tmp_path / "progress.csv").read_text() == "step,a,b\n1,1.0,\n2,2.0,\n3,3.0,\n4,4.0,\n5,,5.0\n"


def test_event_files_go_on_where_they_could_not_be_written(tmp_path: Path, disk: Disk) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log({"a": 1.0}, 1)
    disk.left = 20  # Half a record.
    with pytest.warns(UserWarning, match=f"event file in {re.escape(str(tmp_path))} {FULL}"):
        logger.flush()
    logger.log({"a": 2.0}, 2)
    logger.flush()
    assert not events(tmp_path).Tags()["scalars"]
    disk.left = None
    logger.log({"a": 3.0}, 3)
    logger.close()
    assert points(tmp_path, "a") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_disk_that_is_full_from_the_start_is_told_too(tmp_path: Path, disk: Disk) -> None:
    disk.left = 0
    with pytest.warns(UserWarning, match=f"event file in .* {FULL}"):
        logger = TensorBoardLogger(tmp_path)
    with pytest.warns(UserWarning, match=f"trial curve .* {FULL}"):
        write_curves(tmp_path / "curves", {"a": [1.0]})
    disk.left = None
    logger.log({"a": 1.0}, 1)
    logger.close()
    assert points(tmp_path, "a") == [(1, 1.0)]


def test_what_is_kept_for_a_disk_that_stays_full_has_an_end(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "_MOST_KEPT", 500)
    logger = TensorBoardLogger(tmp_path)
    disk.left = 0
    logger.log({"a": 1.0}, 0)
    with pytest.warns(UserWarning, match="is not being written"):
        logger.flush()
    for step in range(100):
        logger.log({"a": 1.0}, step)
        logger.flush()
    assert len(logger._events._kept) < 600
    disk.left = None
    logger.close()
    assert points(tmp_path, "a")[-1] == (99, 1.0)


def test_a_folder_that_is_deleted_or_renamed_ends_no_logging(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    group = LoggerGroup(CSVLogger(folder / "progress.csv"), TensorBoardLogger(folder))
    group.log({"a": 1.0}, 1)
    group.flush()
    folder.rename(tmp_path / "renamed")
    group.log({"a": 2.0}, 2)
    group.flush()
    assert points(tmp_path / "renamed", "a") == [(1, 1.0), (2, 2.0)]
    shutil.rmtree(tmp_path / "renamed")
    with pytest.warns(UserWarning, match=r"progress\.csv is not being written: No such .* \(put its folder back\)"):
        group.log({"a": 3.0}, 3)
    with pytest.warns(UserWarning, match=r"event file in .* is not being written: No such .* \(put its folder back\)"):
        group.flush()
    group.log({"b": 4.0}, 4)
    group.flush()
    folder.mkdir()
    group.log({"a": 5.0}, 5)
    group.close()
    assert points(folder, "a") == [(3, 3.0), (5, 5.0)]
    assert [row["step"] for row in rows(folder / "progress.csv")] == ["3", "4", "5"]


def test_a_csv_that_can_not_be_cut_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.csv"
    path.write_text("step,a\n1,1.0\n2,2.0\n")

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(loggers, "write_atomically", refuse)
    with pytest.raises(
        RunDirectoryError, match=r"progress\.csv can't be cut back to step 1.*Read-only.*make it writable"
    ):
        cut_csv(path, 1)


@pytest.mark.filterwarnings("ignore:.* is not being written:UserWarning")
def test_a_run_whose_logs_can_not_be_written_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"env": "rlstm/TMaze-v0", "num_envs": 4, "hidden_size": 4, "total_steps": 64, "num_threads": 1}
    weights = []
    for name in ("whole", "without"):
        rlstm.train("ppo", ui="none", run_dir=str(tmp_path / name), **tiny, **kit.short_rollouts("ppo"))
        weights.append(load_checkpoint(RunDirectory(tmp_path / name), "latest").model)

        def full(file: io.FileIO, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(loggers, "write_all", full)
        monkeypatch.setattr(event_files, "write_all", full)
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())
    assert rows(tmp_path / "whole" / "progress.csv")
    assert rows(tmp_path / "without" / "progress.csv") == []


def test_event_files_sort_by_name_though_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process, now in enumerate((1_900_000_000.0, 1_800_000_000.0, 1_800_000_001.0), start=1):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        logger = TensorBoardLogger(tmp_path, purge_step=None if process == 1 else 10 * process)
        logger.log({"a": float(process)}, 10 * process)
        logger.log({"a": float(process)}, 10 * process + 10)
        logger.close()
    names = [path.name for path in event_files.event_paths(tmp_path)]
    assert [int(name.split(".")[3]) for name in names] == [1_900_000_000, 1_900_000_001, 1_900_000_002]
    assert points(tmp_path, "a") == [(10, 1.0), (20, 2.0), (30, 3.0), (40, 3.0)]


class Recorder:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[object] = []
        self.error = error

    def log(self, metrics: Mapping[str, float | None], step: int) -> None:
        self.calls.append((dict(metrics), step))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")
        if self.error:
            raise self.error


def test_a_group_hands_everything_to_every_sink() -> None:
    sinks = Recorder(), Recorder()
    with LoggerGroup(*sinks) as group:
        group.log({"a": 1.0}, 7)
        group.flush()
    assert sinks[0].calls == sinks[1].calls == [({"a": 1.0}, 7), "flush", "close"]


def test_a_group_closes_every_sink_though_one_fails() -> None:
    sinks = Recorder(OSError("disk full")), Recorder()
    with pytest.raises(OSError, match="disk full"):
        LoggerGroup(*sinks).close()
    assert sinks[1].calls == ["close"]
