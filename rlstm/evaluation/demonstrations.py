"""Demonstrations: what an agent saw and did in complete trajectories, in one file that holds data only.

Axes: ``T`` time, ``N`` trajectories, then features. A trajectory goes from one reset of the demonstrator's memory to
the next: an episode; the episodes of a trial if ``memory.lifetime`` is ``trial``; all episodes of an env if it is
``lifelong``. So memory begins at t = 0 of every column and nowhere else. ``actions[t]`` is the answer to
``observations[t]``, and ``rewards[t]`` what it brought. Past its end everything is 0, ``valid`` False.

The file is safetensors: one array a leaf, all else as text in its header, and a checksum over both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from gymnasium import spaces
from safetensors import SafetensorError

from rlstm.core.arrays import BoolArray
from rlstm.core.errors import DemonstrationsError
from rlstm.core.files import json_ready, write_atomically
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.core.version import __version__

FORMAT_VERSION = 1
_FORMAT = "rlstm demonstrations"
_PLAIN = ("actions", "rewards", "valid", "episode_starts", "successes")
_BY_STEP = ("observations", "actions", "rewards", "valid", "episode_starts")


@dataclass(frozen=True, repr=False)
class Demonstrations:
    """N complete trajectories, see the head of this file.

    Raises:
        ValueError: If the shapes don't agree, or a trajectory has no step or a gap.
    """

    observations: Tree  # (T, N, ...) as the env gave them
    actions: npt.NDArray[Any]  # (T, N, *action_shape) as the env took them, in the type of its space
    rewards: npt.NDArray[np.float64]  # (T, N)
    valid: BoolArray  # (T, N) True from the first to the last step of a trajectory
    episode_starts: BoolArray  # (T, N) True where an episode begins, inner ones included
    successes: npt.NDArray[np.float64]  # (N,) of a trajectory's last episode: 1, 0, or NaN where the env doesn't say
    observation_space: Any  # as of `describe_space`
    action_space: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of the actor and its env: anything JSON holds

    def __repr__(self) -> str:
        """Return the sizes, not the arrays."""
        steps, trajectories = int(self.valid.sum()), self.valid.shape[1]
        return f"Demonstrations({trajectories} trajectories, {int(self.episode_starts.sum())} episodes, {steps} steps)"

    def __post_init__(self) -> None:
        """Refuse what is no demonstration."""
        shape = self.valid.shape
        arrays = [self.actions, self.rewards, self.episode_starts, *tree_leaves(self.observations)]
        if len(shape) != 2 or any(array.shape[:2] != shape for array in arrays):
            shapes = sorted({array.shape[:2] for array in (self.valid, *arrays)})
            raise ValueError(f"The arrays of demonstrations must all begin with the same (T, N), not with {shapes}.")
        if self.successes.shape != shape[1:]:
            raise ValueError(f"successes has shape {self.successes.shape}; it must be {shape[1:]}, one a trajectory.")
        if not self.valid.size or not self.valid[0].all() or (self.valid[1:] & ~self.valid[:-1]).any():
            raise ValueError("Every trajectory must be valid from its first step to its last without a gap.")
        if not self.episode_starts[0].all() or (self.episode_starts & ~self.valid).any():
            raise ValueError("Every trajectory must begin with an episode, and no episode begins past its end.")

    @property
    def num_trajectories(self) -> int:
        """N."""
        return len(self.successes)

    @property
    def num_steps(self) -> int:
        """Valid steps of all trajectories together."""
        return int(self.valid.sum())

    @property
    def num_episodes(self) -> int:
        """Episodes of all trajectories together."""
        return int(self.episode_starts.sum())

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Steps of every trajectory, ``(N,)``."""
        return np.asarray(self.valid.sum(axis=0, dtype=np.int64))

    @property
    def returns(self) -> npt.NDArray[np.float64]:
        """Return of every trajectory, ``(N,)``, the same to the last bit for every batch and memory layout."""
        return np.asarray(self.rewards.cumsum(axis=0)[-1])

    @property
    def mean_return(self) -> float:
        """Mean return of an episode."""
        return float(self.rewards.sum() / self.num_episodes)

    def select(self, trajectories: npt.NDArray[Any]) -> Demonstrations:
        """Return some of the trajectories, by index or mask ``(N,)``, no longer in time than the longest of them."""
        length = int(self.lengths[trajectories].max(initial=0))
        chosen = {name: tree_map(lambda leaf: leaf[:length, trajectories], getattr(self, name)) for name in _BY_STEP}
        return dataclasses.replace(self, **chosen, successes=self.successes[trajectories])

    def joined(self, others: Demonstrations) -> Demonstrations:
        """Return these trajectories and, after them, others of the same spaces; the metadata are these."""
        length = max(len(self.valid), len(others.valid))

        def side_by_side(*leaves: npt.NDArray[Any]) -> npt.NDArray[Any]:
            padding = [[(0, length - len(leaf)), *[(0, 0)] * (leaf.ndim - 1)] for leaf in leaves]
            return np.concatenate([np.pad(leaf, pad) for leaf, pad in zip(leaves, padding, strict=True)], axis=1)

        joined = {name: tree_map(side_by_side, getattr(self, name), getattr(others, name)) for name in _BY_STEP}
        return dataclasses.replace(self, **joined, successes=np.append(self.successes, others.successes))

    def only_successes(self) -> Demonstrations:
        """Return the trajectories whose last episode succeeded: what was tried before it in a trial belongs to them.

        Raises:
            DemonstrationsError: If the env doesn't say what succeeded, or nothing did.
        """
        if np.isnan(self.successes).all():
            raise DemonstrationsError(
                "the env says nothing of success: give info['is_success'] at the last step of an episode, or keep all."
            )
        succeeded = self.successes == 1
        if not succeeded.any():
            raise DemonstrationsError(
                f"none of the {self.num_trajectories} trajectories ended in success: train longer, or keep all."
            )
        return self.select(succeeded)

    def check_spaces(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        """Check that an env sees and takes what these demonstrations hold; bounds of observations may differ.

        Raises:
            DemonstrationsError: If not, naming the first difference.
        """
        differences = [
            *_differences("observations", self.observation_space, describe_space(observation_space)),
            *_differences("actions", self.action_space, describe_space(action_space, bounds=True)),
        ]
        for place, found, wanted in differences[:1]:
            raise DemonstrationsError(
                f"the demonstrations are of another env: {place} are of {found}, those of this env of {wanted}."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            DemonstrationsError: If there is something under this name, or it can't be written.
            TypeError: If the metadata holds what JSON can't.
        """
        path = Path(path)
        refuse_existing(path)
        names = tree_leaves(_names("observations", self.observations))
        arrays = dict(zip(names, tree_leaves(self.observations), strict=True))
        arrays |= {name: getattr(self, name) for name in _PLAIN}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        own = {"observation_space": self.observation_space, "action_space": self.action_space}
        more = {"rlstm_version": __version__, "mean_return": self.mean_return, "metadata": dict(self.metadata)}
        header = {name: json.dumps(json_ready(value)) for name, value in {**own, **more}.items()}
        header |= {"format": _FORMAT, "format_version": str(FORMAT_VERSION)}
        content = safetensors.numpy.save(arrays, {**header, "sha256": _checksum(arrays, header)})
        try:
            write_atomically(path, content)
        except OSError as error:
            raise DemonstrationsError(f"can't write {path}: {error.strerror or error}. Name another file.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Demonstrations:
        """Read a file, checking every byte of it; nothing in it is ever executed.

        Raises:
            DemonstrationsError: If it is missing, damaged, of another format version, or holds no demonstrations.
        """
        path = Path(path)
        arrays, header = _read(path)
        if header.get("format") != _FORMAT:
            raise DemonstrationsError(f"{path} holds no demonstrations. Give a file written by 'rlstm record'.")
        if header.get("format_version") != str(FORMAT_VERSION):
            raise DemonstrationsError(
                f"{path} has format_version {header.get('format_version')} (written by rlstm "
                f"{header.get('rlstm_version')}); rlstm {__version__} reads {FORMAT_VERSION}. Record anew."
            )
        if header.pop("sha256", None) != _checksum(arrays, header):
            raise DemonstrationsError(f"{path} is damaged: its checksum differs. Restore a copy, or record anew.")
        try:
            values = {name: json.loads(header[name]) for name in ("observation_space", "action_space", "metadata")}
            names = _names("observations", values["observation_space"])
            observations = tree_map(lambda name: arrays[name], names)
            plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
            return cls(observations, **plain, **values)
        except (KeyError, ValueError) as error:
            raise DemonstrationsError(f"{path} is not as rlstm writes it: {error}. Record anew.") from error


def describe_space(space: spaces.Space[Any], *, bounds: bool = False) -> Any:
    """Return a space as JSON: dicts and lists of texts, one a leaf; the bounds of a Box only if asked for."""
    if isinstance(space, spaces.Dict):
        return {key: describe_space(part, bounds=bounds) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return [describe_space(part, bounds=bounds) for part in space.spaces]
    if isinstance(space, spaces.Box) and not bounds:
        return f"Box({space.shape}, {space.dtype})"
    return str(space)


def refuse_existing(path: Path) -> None:
    """Refuse to write where something is, or where there is no folder.

    Raises:
        DemonstrationsError: With the remedy.
    """
    if path.exists():
        raise DemonstrationsError(f"{path} exists already. Name another file with --output, or move it away.")
    if not path.parent.is_dir():
        raise DemonstrationsError(f"can't write {path}: there is no folder {path.parent}. Make it first.")


def _differences(place: str, mine: Any, other: Any) -> Iterator[tuple[str, str, str]]:
    """Yield where two descriptions of spaces differ, and how."""
    if isinstance(mine, dict) and isinstance(other, dict) and mine.keys() == other.keys():
        for key in mine:
            yield from _differences(f"{place}[{key!r}]", mine[key], other[key])
    elif isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        for index, (one, another) in enumerate(zip(mine, other, strict=True)):
            yield from _differences(f"{place}[{index}]", one, another)
    elif mine != other:
        yield place, _short(mine), _short(other)


def _short(description: Any) -> str:
    if isinstance(description, dict):
        return f"a Dict with {', '.join(description)}"
    return f"a Tuple of {len(description)}" if isinstance(description, list) else str(description)


def _names(place: str, tree: Tree) -> Tree:
    """Return a tree of the leaves' names, from observations or the description of their space."""
    if isinstance(tree, dict):
        return {key: _names(f"{place}[{key!r}]", branch) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(_names(f"{place}[{index}]", branch) for index, branch in enumerate(tree))
    return place


def _checksum(arrays: Mapping[str, npt.NDArray[Any]], header: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Return the arrays and the texts of a safetensors file; what is checked and what is used are the same bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DemonstrationsError(
            f"{path} can't be read: {error.strerror or error}. Give a file written by 'rlstm record'."
        ) from error
    try:
        arrays = safetensors.numpy.load(data)
    except (SafetensorError, KeyError) as error:  # The latter at a type that numpy hasn't.
        raise DemonstrationsError(
            f"{path} is no safetensors file or is cut off ({error}). Restore a copy, or record anew."
        ) from error
    # The layout of the format: the length of the header in 8 bytes, the header as JSON, the arrays.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return arrays, header.get("__metadata__", {})
