"""The inspector's page: one file that holds its data and needs no network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from gymnasium import spaces
from PIL import Image

from rlstm.core.arrays import Array
from rlstm.core.files import json_ready
from rlstm.inspection.playback import Episode, Frame
from rlstm.inspection.trace import Trace, time_scales

_MOST_ROWS = 256  # Of a heat map; a wider leaf is summarised.
_SUMMARY_ROWS = 64
_FRAME_WIDTH, _FRAME_BYTES = 330, 1_500_000  # Of all frames together.
_SHOWN_NUMBERS = 24  # Of an observation.


def write_page(facts: Mapping[str, Any], episodes: Sequence[dict[str, Any]]) -> bytes:
    """Return the page.

    Args:
        facts: ``title``, ``subtitle``, ``summary`` and what is measured, by the names that the page reads.
        episodes: Of ``describe_episode``.
    """
    template = resources.files("rlstm.inspection").joinpath("page.html").read_text(encoding="utf-8")
    text = json.dumps(json_ready({**facts, "episodes": list(episodes)}), allow_nan=False, separators=(",", ":"))
    return template.replace("__DATA__", text.replace("</", "<\\/")).encode()


def describe_episode(
    episode: Episode, traced: Trace, gradient: Array, influence: Array, frames: tuple[list[Any], int]
) -> dict[str, Any]:
    """Return what the page shows of an episode.

    Args:
        episode: As played.
        traced: What was held.
        gradient: ``(T, T)``.
        influence: ``(T, T)``.
        frames: Of ``encode_frames``.
    """
    moments = episode.moments
    choices = range(len(moments[0].probabilities))
    return {
        "actions": [_short(moment.action) for moment in moments],
        "observations": [_short_tree(moment.observation) for moment in moments],
        "values": [_round(moment.value) for moment in moments],
        "rewards": [_round(moment.reward) for moment in moments],
        "returns": [_round(moment.total) for moment in moments],
        "resets": [moment.is_first for moment in moments],
        "probabilities": [[np.round(one.probabilities[i], 4).tolist() for one in moments] for i in choices],
        "parameters": [np.round(moment.parameters, 4).tolist() for moment in moments],
        "frames": frames[0],
        "stride": frames[1],
        "text": bool(frames[0]) and not str(frames[0][0]).startswith("data:image"),
        "blocks": heat_maps(traced),
        "gradient": _triangle(gradient),
        "influence": _triangle(influence),
    }


def heat_maps(traced: Trace) -> list[dict[str, Any]]:
    """Return what was held and how far gates opened, a block each, rows in the order of their time scales."""
    scales = time_scales(traced.gates)
    blocks = []
    for name, values, signed in [
        *((name, values, True) for name, values in traced.memory.items()),
        *((f"{name} gate", values, False) for name, values in traced.gates.items()),
    ]:
        layer = name.split(".")[0] if "." in name else ""
        known = [scale for gate, scale in scales.items() if (gate.split(".")[0] if "." in gate else "") == layer]
        blocks.append(_block(name, values, known[0] if known and len(known[0]) == values.shape[1] else None, signed))
    return blocks


def _block(name: str, values: Array, scales: Array | None, signed: bool) -> dict[str, Any]:
    title, order = name, "shortest time scale of the forget gate first"
    if values.shape[1] > _MOST_ROWS:  # The matrices of an mLSTM: one row a group of numbers.
        groups = np.array_split(np.abs(values), _SUMMARY_ROWS, axis=1)
        values = np.stack([group.mean(1) for group in groups], 1)
        title, signed, scales = f"{name}, mean size in {_SUMMARY_ROWS} groups", False, None
        names = [f"group {index}" for index in range(_SUMMARY_ROWS)]
    else:
        names = [str(index) for index in range(values.shape[1])]
    if scales is None:
        scales, order = _persistence(values), "least persistent first"
    rows = np.argsort(scales, kind="stable")
    largest = float(np.abs(values).max()) if signed or title != name else 1.0
    levels = np.round(127 * values[:, rows].T / (largest or 1.0)).astype(np.int8)  # (N, T)
    return {
        "title": title,
        "order": order,
        "units": len(rows),
        "names": [names[row] for row in rows],
        "signed": signed,
        "scale": _round(largest),
        "values": base64.b64encode(levels.tobytes()).decode(),
    }


def _persistence(values: Array) -> Array:
    """Return for each column of ``(T, N)`` how alike neighbouring steps are, its autocorrelation at lag 1."""
    centred = values - values.mean(0)
    power = np.square(centred).sum(0)
    covariance: Array = (centred[1:] * centred[:-1]).sum(0)
    return np.where(power > 1e-12, covariance / np.maximum(power, 1e-12), 0.0)


def encode_frames(episodes: Sequence[Episode]) -> list[tuple[list[Any], int]]:
    """Return for each episode its frames, texts or images as data, and of every how many steps there is one.

    All frames together stay within a budget of bytes: of long episodes only every second, third, ... is kept.
    """
    first = [episode.moments[0].frame for episode in episodes]
    if any(frame is None for frame in first):
        return [([], 1) for _ in episodes]
    if isinstance(first[0], str):
        return [([moment.frame for moment in episode.moments], 1) for episode in episodes]
    total = sum(_mean_size(episode) * len(episode.moments) for episode in episodes)
    stride = max(1, math.ceil(total / _FRAME_BYTES))
    return [([_data_url(moment.frame) for moment in episode.moments[::stride]], stride) for episode in episodes]


def _mean_size(episode: Episode) -> float:
    """Return the mean size of a frame in bytes, of some along the episode."""
    some = episode.moments[:: max(1, len(episode.moments) // 5)]
    return sum(len(_data_url(moment.frame)) for moment in some) / len(some)


def _data_url(frame: Frame) -> str:
    image = Image.fromarray(np.asarray(frame)[:, :, :3].astype(np.uint8))
    if image.width > _FRAME_WIDTH:
        image = image.resize((_FRAME_WIDTH, max(1, round(image.height * _FRAME_WIDTH / image.width))))
    buffer = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _triangle(matrix: Array) -> dict[str, Any]:
    """Return the entries of ``(T, T)`` with s <= t, a byte each: signed square roots of shares of the largest."""
    values = matrix[np.tril_indices(len(matrix))]
    scale = float(np.abs(values).max())
    levels = np.sign(values) * np.sqrt(np.abs(values) / (scale or 1.0))
    packed = base64.b64encode(np.round(127 * levels).astype(np.int8).tobytes()).decode()
    return {"steps": len(matrix), "scale": _round(scale), "values": packed}


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def _short(value: Any) -> str:
    return np.array2string(
        np.asarray(value), precision=4, separator=", ", suppress_small=True, threshold=_SHOWN_NUMBERS
    )


def _short_tree(observation: Any) -> str:
    if isinstance(observation, dict):
        return "; ".join(f"{key}: {_short_tree(part)}" for key, part in observation.items())
    if isinstance(observation, tuple):
        return "; ".join(map(_short_tree, observation))
    array = np.asarray(observation)
    if array.size > 4 * _SHOWN_NUMBERS:
        return f"{' x '.join(map(str, array.shape))} {array.dtype}"
    return _short(array)


def flat_observation(observation: Any, space: spaces.Space[Any]) -> Array:
    """Return an observation as one vector, symbols one-hot, for a probe that sees no more than it."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return np.concatenate([flat_observation(observation[key], part) for key, part in parts])
    values = np.asarray(observation).reshape(-1)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        counts = [int(space.n)] if isinstance(space, spaces.Discrete) else np.asarray(space.nvec).reshape(-1)
        symbols = values - np.asarray(space.start).reshape(-1)
        return np.concatenate([np.eye(int(count))[int(one)] for count, one in zip(counts, symbols, strict=True)])
    return values.astype(np.float64)
