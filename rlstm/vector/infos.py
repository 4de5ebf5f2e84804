"""What vector envs say in their ``infos``, in the shapes of Gymnasium and of envs that are batched themselves.

Letters in shapes: B lanes, N of them finished with this step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray, FloatArray
from rlstm.core.trees import Tree, tree_map


def final_rows(final: Any, finished: npt.NDArray[np.intp]) -> Tree:
    """Return the last observations of the finished lanes as arrays ``(N, ...)``.

    Gymnasium's vector envs give an object array of single observations, native ones may give one full array.
    """
    if isinstance(final, np.ndarray) and final.dtype == object:
        rows = [final[lane] for lane in finished]
        return tree_map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), rows[0], *rows[1:])
    return tree_map(lambda leaf: np.asarray(leaf)[finished], final)


def said_by_envs(
    infos: dict[str, Any], final: Any, name: str, finished: npt.NDArray[np.intp], num_envs: int
) -> tuple[npt.NDArray[Any], BoolArray] | None:
    """Return the numbers ``(B, ...)`` that this step's infos give under a name, and which lanes gave one, ``(B,)``.

    What a finished lane's last step said stands in ``final``: beside it is already the info of the reset. None where no
    lane says anything, or what is said are not numbers.
    """
    if name not in infos and not (isinstance(final, dict) and name in final):
        return None
    sources = [one for one in ((infos, False), (final, True)) if isinstance(one[0], dict) and name in one[0]]
    ends = np.zeros(num_envs, dtype=bool)
    ends[finished] = True
    found = [(source, ends if is_final else ~ends) for source, is_final in sources]
    found = [(source, lanes) for source, lanes in found if lanes.any()]
    said = [np.broadcast_to(np.asarray(source.get(f"_{name}", True), dtype=bool), num_envs) for source, _ in found]
    every = [_stacked(np.asarray(source[name]), one) for (source, _), one in zip(found, said, strict=True)]
    if not found or any(values.dtype.kind not in "fiub" or values.shape[:1] != (num_envs,) for values in every):
        return None
    merged, given = np.zeros(every[0].shape, np.result_type(*every)), np.zeros(num_envs, dtype=bool)
    for (_, lanes), values, one in zip(found, every, said, strict=True):
        merged[lanes], given[lanes] = values[lanes], one[lanes]
    return merged, given


def successes_said(infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int) -> FloatArray:
    """Return ``is_success`` of the finished lanes from the last step's info, NaN where it is not given."""
    final = infos.get("final_info", infos)
    said = final.get("is_success") if isinstance(final, dict) else None
    if isinstance(said, np.ndarray) and said.dtype.kind in "fiub" and said.shape == (num_envs,):  # As envs of ours do.
        given = np.broadcast_to(np.asarray(final.get("_is_success", True), dtype=bool), num_envs)
        return np.where(given[finished], said[finished].astype(np.float64), np.nan)
    every = said_by_envs({}, final, "is_success", finished, num_envs)
    if every is None:
        return np.full(len(finished), np.nan)
    return np.where(every[1], every[0].astype(np.float64), np.nan)[finished]


def regrets_said(infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int) -> FloatArray | None:
    """Return ``info["regret"]`` of this step for all lanes, NaN where it is not given; None where no lane gives it."""
    said = said_by_envs(infos, infos.get("final_info", infos), "regret", finished, num_envs)
    if said is None or said[0].ndim != 1:
        return None
    regrets = np.where(said[1], said[0].astype(np.float64), np.nan)
    return None if np.isnan(regrets).all() else regrets


def label_errors_said(infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int) -> FloatArray | None:
    """Return how many errors the finished lanes made in their strings of labels, and how long these are, ``(N, 2)``.

    A row is NaN where the last step doesn't say both, or the episode was cut; None where there is no string.
    """
    final = infos.get("final_info", infos)
    said = [said_by_envs({}, final, name, finished, num_envs) for name in ("label_errors", "num_labels")]
    columns = [np.where(one[1], one[0], np.nan)[finished] for one in said if one is not None and one[0].ndim == 1]
    if len(columns) < 2:
        return None
    rows = np.stack(columns, axis=-1).astype(np.float64)
    rows[(rows < 0).any(axis=1)] = np.nan
    return None if np.isnan(rows).all() else rows


def targets_said(
    infos: dict[str, Any], finished: npt.NDArray[np.intp], num_envs: int
) -> tuple[npt.NDArray[Any] | None, BoolArray | None]:
    """Return what a teacher would have answered to this step's observations, (B, ...), and in which lanes it says so.

    A class below 0 or a NaN says that nothing is asked; a target that isn't there is 0.
    """
    said = said_by_envs(infos, infos.get("final_info"), "target", finished, num_envs)
    if said is None:
        return None, None
    targets, given = said
    flat = targets.reshape(num_envs, -1)
    given &= ~np.isnan(flat).any(axis=1) if flat.dtype.kind == "f" else (flat >= 0).all(axis=1)
    targets[~given] = 0
    return (targets, given) if given.any() else (None, None)


def _stacked(values: npt.NDArray[Any], said: BoolArray) -> npt.NDArray[Any]:
    """Return what the lanes said as one array if they said lists, which come as objects, all of one shape."""
    if values.dtype.kind != "O" or values.shape != said.shape or not said.any():
        return values
    rows = [np.asarray(row) for row in values[said]]
    if any(row.shape != rows[0].shape or row.dtype.kind not in "fiub" for row in rows):
        return values
    stacked = np.zeros((len(values), *rows[0].shape), dtype=np.result_type(*rows))
    stacked[said] = rows
    return stacked
