"""The networks of a policy: a trunk, which is an encoder and a memory, and the heads that read it."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import nn

from rlstm.cells import CELLS, RecurrentCell, make_cell
from rlstm.cells.sequence_paths import check_sequence_path
from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.memory_boundaries import InputsConfig
from rlstm.policies.config import PolicyConfig
from rlstm.policies.layers import HighwayLayer, linear, mlp
from rlstm.policies.observations import ObservationEncoder


class Trunk(nn.Module):
    """Encoder and memory: observations to features of the past."""

    def __init__(self, encoder: ObservationEncoder, cell: RecurrentCell) -> None:
        super().__init__()
        self.encoder = encoder
        self.cell = cell


def make_trunk(
    observation_space: spaces.Space[Any], config: PolicyConfig, seen: InputsConfig, num_action_features: int
) -> Trunk:
    """Build an encoder and a memory with fresh weights.

    Args:
        observation_space: The env's single observation space.
        config: The network.
        seen: What is seen beside the observation, resolved.
        num_action_features: Width of a previous action.

    Raises:
        UnsupportedSpaceError: If the space can't be read.
        ValueError: If the configuration makes no sense.
    """
    num_extras = num_action_features * bool(seen.previous_action)
    num_extras += bool(seen.previous_reward) + bool(seen.episode_start)
    reads_time, reads_maps = (
        config.cell in CELLS and getattr(CELLS[config.cell], name) for name in ("reads_elapsed_time", "reads_maps")
    )
    encoder = ObservationEncoder(
        observation_space,
        num_extras,
        () if reads_maps else config.encoder_sizes,
        normalise=config.normalize_observations,
        is_highway=config.highway,
        left_out=() if config.elapsed_time is None else (config.elapsed_time,),
        encoder=config.encoder,
        encoder_kwargs=config.encoder_kwargs,
        image_layout=config.image_layout,
        image_strides=config.image_strides,
    )
    if config.highway and not any(isinstance(layer, HighwayLayer) for layer in encoder.layers):
        raise ValueError(
            f"highway is set, but none of encoder_sizes {config.encoder_sizes} is as wide as what it reads: give "
            "two of one width, '64 64' for instance, or leave highway out."
        )
    if reads_maps and encoder.map_shape is None:
        raise UnsupportedSpaceError(
            f"The cell '{config.cell}' reads one image, but the observations are {observation_space}. Use "
            "another cell, 'lstm' for instance."
        )
    cell = make_cell(
        config.cell,
        encoder.output_size + reads_time,
        config.hidden_size,
        num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        residual=config.residual,
        layer_norm=config.layer_norm,
        memory_length=config.memory_length,
        memory_init=config.memory_init,
        options={**config.cell_kwargs, **({"map_shape": encoder.map_shape} if reads_maps else {})},
    )
    check_sequence_path(cell, config.sequence, config.cell)
    if reads_maps and "map_shape" in config.cell_kwargs:
        raise ValueError("cell_kwargs has a map_shape, but the observations decide it; leave it out.")
    _check_elapsed_time(config.elapsed_time, config.cell, observation_space, is_read=reads_time)
    return Trunk(encoder, cell)


def _check_elapsed_time(key: str | None, cell: str, space: spaces.Space[Any], *, is_read: bool) -> None:
    """Refuse a key of elapsed time that isn't there, is no single number, or that nothing reads."""
    if key is None:
        return
    if not is_read:
        readers = ", ".join(name for name, one in CELLS.items() if one.reads_elapsed_time)
        raise ValueError(f"elapsed_time is '{key}', but the cell '{cell}' reads no time. Those that do: {readers}.")
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    if key not in parts or not isinstance(parts[key], spaces.Box) or parts[key].shape not in ((), (1,)):
        raise ValueError(
            f"elapsed_time is '{key}', which must be a key of the Dict observation with one number; this is {space}."
        )


def make_head(num_inputs: int, config: PolicyConfig, num_outputs: int, gain: float) -> nn.Sequential:
    """Build a head: hidden layers, and last a linear one whose weights are scaled by ``gain``."""
    layers, width = mlp(num_inputs, config.head_sizes)
    return nn.Sequential(*layers, linear(width, num_outputs, gain))
