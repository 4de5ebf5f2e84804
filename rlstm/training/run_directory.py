"""The folder of one training run: where every file lies, and how the small ones are written and read.

    config.json, env_spec.json, spaces.json, command.txt, versions.json, progress.csv, evaluations.npz, checkpoints/,
    trial_curves/, curriculum.toml, manifest.json, run.lock

`trial_curves/step_000300000/` is there only under trials of more than one episode: a TensorBoard event file of the
evaluation after 300,000 environment steps, whose x-axis is the place of an episode in its trial, from 1. Each is a
folder, and so a run of TensorBoard's, of its own, since the x-axis of the run's own event file is environment steps.

`curriculum.toml` is the file of the run's stages as it was at the start, if there are any; a resumed run reads it.

Conventions: steps are environment steps. A file is replaced as a whole (temporary file, then `os.replace`), so a reader
never sees half of one. JSON holds `null` where Python holds NaN or an infinity. `evaluations.npz` has the keys of
Stable-Baselines3, plain numeric arrays, no pickle. `config.json` is written last: a folder without it is no run, and
what a start that failed has left there makes room for the next one.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rlstm.core.errors import RunDirectoryError
from rlstm.core.files import json_bytes, json_ready, parse_object, read_json, write_atomically, write_json
from rlstm.training.manifest import refuse_edited, write_manifest
from rlstm.training.new_folder import (
    default_run_directory,
    folder_errors,
    is_temporary,
    refuse_occupied,
    remove_leftovers,
)
from rlstm.training.versions import collect_versions

__all__ = ["RunDirectory", "RunDirectoryError", "collect_versions", "default_run_directory", "disk_errors"]

Evaluations = dict[str, NDArray[Any]]
"""`timesteps` (N,) int64, `results` (N, E) float64, `ep_lengths` (N, E) int64: N evaluations of E episodes each."""


class RunDirectory:
    """The paths of one run, and the files that aren't logs or checkpoints. Make one with `create` or `open`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.env_spec_path = self.path / "env_spec.json"
        self.spaces_path = self.path / "spaces.json"
        self.curriculum_path = self.path / "curriculum.toml"
        self.command_path = self.path / "command.txt"
        self.versions_path = self.path / "versions.json"
        self.progress_path = self.path / "progress.csv"
        self.evaluations_path = self.path / "evaluations.npz"
        self.checkpoints_path = self.path / "checkpoints"
        self.trial_curves_path = self.path / "trial_curves"
        self.demonstrations_path = self.path / "demonstrations.safetensors"

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        config: Any,
        env_spec: Mapping[str, Any] | str,
        spaces: Mapping[str, Any] | None = None,
        curriculum: str | None = None,
        command: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> Self:
        """Start a new run in a folder that is missing or empty.

        Args:
            path: The folder; its parents are made too.
            config: The resolved config: a dataclass or a mapping, nested as one likes.
            env_spec: The env, as a mapping or as the text that gymnasium's `EnvSpec.to_json()` returns.
            spaces: Those of observations and actions as JSON, so that the policy can be made without its env.
            curriculum: The text of the file of its stages.
            command: The command line as a list of words; `sys.argv` if None.
            device: Where the run computes, for `versions.json`.

        Raises:
            RunDirectoryError: If the folder holds something, or can't be written; `env_spec` is no JSON object.
            TypeError: If the config or the spec holds something that JSON can't.
        """
        run = cls(path)
        content = json_bytes(config)
        spec = parse_object(env_spec, "env_spec") if isinstance(env_spec, str) else json_ready(env_spec)
        with folder_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            refuse_occupied(run.path)
            remove_leftovers(run.path)
            run.checkpoints_path.mkdir()
            write_json(run.env_spec_path, spec)
            if spaces is not None:
                write_json(run.spaces_path, json_ready(spaces))
            if curriculum is not None:
                write_atomically(run.curriculum_path, curriculum.encode())
            write_json(run.versions_path, collect_versions(device))
            run.append_command(sys.argv if command is None else command)
            write_manifest(run.path, {run.config_path.name: content})
            write_atomically(run.config_path, content)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, accept_edits: bool = False) -> Self:
        """Open the folder of an existing run.

        Args:
            path: The folder.
            accept_edits: Whether to open it though files were edited since they were written.

        Raises:
            RunDirectoryError: If it is missing or no run; a file that doesn't change by itself was edited or damaged.
        """
        run = cls(path)
        if not run.path.is_dir():
            what = "is a file, not a folder" if run.path.exists() else "does not exist"
            raise RunDirectoryError(f"{run.path} {what}. Give the folder of a run, the one that holds config.json.")
        if not run.config_path.is_file():
            runs = sorted(folder.parent.name for folder in run.path.glob("*/config.json"))
            hint = f"It holds the runs {', '.join(runs[:8])}: name one." if runs else "Give the folder of a run."
            raise RunDirectoryError(f"{run.path} is not a run directory: it has no config.json. {hint}")
        run.read_config()
        run.read_env_spec()
        if not accept_edits:
            refuse_edited(run.path)
        return run

    def read_config(self) -> dict[str, Any]:
        """Return the resolved config as written; raise `RunDirectoryError` if the file is missing or damaged."""
        return read_json(self.config_path)

    def write_config(self, config: Any) -> None:
        """Replace the resolved config, and make the manifest that of the files as they are. Raises `OSError`."""
        content = json_bytes(config)
        if self.config_path.read_bytes() != content:
            write_manifest(self.path, {self.config_path.name: content})
            write_atomically(self.config_path, content)
        write_manifest(self.path)

    def read_env_spec(self) -> dict[str, Any]:
        """Return the env's spec, which `EnvSpec.from_json(json.dumps(spec))` restores; raise as `read_config` does."""
        spec = read_json(self.env_spec_path)
        if not isinstance(spec.get("id"), str):
            raise RunDirectoryError(f"{self.env_spec_path} is damaged: it has no id of an env. Restore it from a copy.")
        return spec

    def read_spaces(self) -> dict[str, Any] | None:
        """Return the spaces as written, None for a run of an earlier version; raise as `read_config` does."""
        return read_json(self.spaces_path) if self.spaces_path.exists() else None

    def append_command(self, command: Sequence[str]) -> None:
        """Add a line to `command.txt`, quoted for a shell: the run's own command, later those that resumed it."""
        earlier = self.command_path.read_bytes() if self.command_path.exists() else b""
        write_atomically(self.command_path, earlier + f"{shlex.join(command)}\n".encode())

    def read_evaluations(self) -> Evaluations:
        """Return all evaluations so far, N = 0 if there are none; raise `RunDirectoryError` if they can't be read."""
        if not self.evaluations_path.exists():
            return {"timesteps": np.zeros(0, int), "results": np.zeros((0, 0)), "ep_lengths": np.zeros((0, 0), int)}
        try:
            # From memory: numpy leaves the file of a damaged archive open.
            with np.load(io.BytesIO(self.evaluations_path.read_bytes()), allow_pickle=False) as archive:
                evaluations = {key: archive[key] for key in ("timesteps", "results", "ep_lengths")}
            _refuse_misshapen(evaluations)
            return evaluations
        except Exception as error:  # numpy raises a different type for each kind of damage
            raise RunDirectoryError(
                f"{self.evaluations_path} can't be read as numeric arrays ({error}). Move it away to start a new one."
            ) from error

    def append_evaluation(self, step: int, returns: Sequence[float], lengths: Sequence[int]) -> None:
        """Add the evaluation made after `step` environment steps; one made at the same step is replaced.

        It has the undiscounted return and the steps of each episode, (E,).

        Raises:
            RunDirectoryError: If an earlier evaluation has a later step or another number of episodes.
        """
        row = {"timesteps": np.asarray(step), "results": np.asarray(returns), "ep_lengths": np.asarray(lengths)}
        num_episodes = row["results"].size
        if not num_episodes or {row["results"].shape, row["ep_lengths"].shape} != {(num_episodes,)}:
            raise RunDirectoryError(
                f"an evaluation needs one return and one length an episode, not {returns}, {lengths}."
            )
        earlier = self.read_evaluations()
        earlier = {key: values[earlier["timesteps"] != step] for key, values in earlier.items()}
        last_step = max(earlier["timesteps"], default=step)
        if step < last_step:
            raise RunDirectoryError(
                f"{self.evaluations_path} already reaches step {last_step}, the new evaluation is of step {step}. "
                "Call cut_evaluations(step) when a run goes on from an earlier checkpoint."
            )
        if any(len(results) != num_episodes for results in earlier["results"]):
            raise RunDirectoryError(
                f"{self.evaluations_path} holds evaluations of {len(earlier['results'][0])} episodes, the new one has "
                f"{num_episodes}. Keep the number of evaluation episodes within a run."
            )
        self.write_evaluations({key: np.array([*earlier[key], row[key]]) for key in row})

    def trial_curve_path(self, step: int) -> Path:
        """Return the folder of the trial curves after `step` environment steps; names sort as steps do."""
        return self.trial_curves_path / f"step_{step:09d}"

    def cut_evaluations(self, step: int) -> None:
        """Remove the evaluations, and their trial curves, made later than `step`, from which a run is resumed."""
        evaluations = self.read_evaluations()
        kept = evaluations["timesteps"] <= step
        if not kept.all():
            self.write_evaluations({key: values[kept] for key, values in evaluations.items()})
        for path in self.trial_curves_path.glob("step_*"):
            number = path.name.removeprefix("step_")
            if number.isdecimal() and int(number) > step:
                shutil.rmtree(path)

    def write_evaluations(self, evaluations: Evaluations) -> None:
        """Replace all evaluations. Raises `OSError`."""
        buffer = io.BytesIO()
        kinds = {"timesteps": np.int64, "results": np.float64, "ep_lengths": np.int64}
        np.savez(buffer, **{key: evaluations[key].astype(kind) for key, kind in kinds.items()})  # type: ignore[arg-type]
        write_atomically(self.evaluations_path, buffer.getvalue())

    def remove_stale_files(self) -> None:
        """Remove the temporary files of writes that a crash cut short. Raises `OSError`."""
        for path in self.path.glob(".*.tmp"):
            if is_temporary(path.name):
                path.unlink()


def _refuse_misshapen(evaluations: Evaluations) -> None:
    shape = evaluations["results"].shape
    shapes = [values.shape for values in evaluations.values()]
    if (
        len(shape) != 2
        or shapes != [shape[:1], shape, shape]
        or any(v.dtype.kind not in "iuf" for v in evaluations.values())
    ):
        raise ValueError(f"arrays of numbers of the shapes (N,), (N, E) and (N, E) are expected, not {shapes}")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Name the run where something can't be written to its folder."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"can't write {error.filename or folder}: {error.strerror or error}. Earlier checkpoints are intact: free "
            f"some space, then `rlstm resume {folder}`."
        ) from error
