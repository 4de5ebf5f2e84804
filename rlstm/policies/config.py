"""The settings of a policy's network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rlstm.core.cell_graph_files import cell_of_file, graph_from_table
from rlstm.core.cell_options import MemoryInit, SequencePath, check_memory_length
from rlstm.core.ranges import AtLeast, check_ranges
from rlstm.core.searched import Among


@dataclass(frozen=True)
class PolicyConfig:
    """The network."""

    cell: Annotated[str, Among("lstm", "gru", "ln_gru")] = "lstm"
    """Memory cell: see 'rlstm cells'; or a TOML file of a graph, which is stored as cell graph and its cell_kwargs."""

    hidden_size: Annotated[int, AtLeast(1), Among(32, 64, 128, 256)] = 128
    """Width of each layer of the memory."""

    num_layers: Annotated[int, AtLeast(1), Among(1, 2)] = 1
    """Memory cells on top of each other."""

    bidirectional: bool = False
    """Read every sequence from both ends, by two memories in each layer. For labelling whole sequences with a teacher:
    what reads the future can't act."""

    residual: bool = False
    """Whether layers of the memory above the first add to what they read."""

    layer_norm: bool = False
    """Whether layers of the memory above the first read it normalised (Ba et al. 2016)."""

    cell_kwargs: dict[str, Any] = field(default_factory=dict)
    """More options of the cell as KEY=VALUE, see its docstring; values are read as JSON."""

    elapsed_time: str | None = None
    """Key of a Dict observation with the time since the step before, for cells that read it. Default: 1 a step."""

    sequence: SequencePath = "auto"
    """How the memory runs over sequences: the fastest way measured, the plain loop over steps, or Triton kernels."""

    encoder_sizes: Annotated[tuple[int, ...], AtLeast(1)] = (64,)
    """Widths of the tanh layers between observation and memory; none feeds the memory directly. A cell that reads the
    maps of an image has none."""

    encoder: str = "auto"
    """What reads the observation, or the parts of it that it can read: mlp, one_hot, embedding, cnn, impala, or one of
    your own. Default: cnn for images, one_hot for whole numbers of a Discrete, else mlp."""

    encoder_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options of the encoder as KEY=VALUE, see its docstring; values are read as JSON."""

    image_layout: Literal["auto", "hwc", "chw"] = "auto"
    """Where images have their channels: last, first, or on the axis of 1, 3 or 4, else on the smaller one."""

    image_strides: bool = True
    """Convolve images of 16 to 35 pixels with strides. Without, as before, they take millions of weights."""

    highway: bool = False
    """Whether encoder layers as wide as what they read are highway layers (Srivastava et al. 2015)."""

    head_sizes: Annotated[tuple[int, ...], AtLeast(1)] = ()
    """Widths of the tanh layers between memory and each head."""

    critic_memory: Literal["shared", "detached", "separate"] | None = None
    """Whether the critic reads the actor's memory, reads it without training it, or has an encoder and a memory of its
    own. Default: the agent's."""

    memory_length: Annotated[int | None, Among(None, 10, 100)] = None
    """Longest lag in steps to bridge: the gates begin with time scales up to it (Tallec & Ollivier 2018)."""

    memory_init: MemoryInit = "chrono"
    """How these are spread: drawn at random, most of them long, or the same number in every octave from 2 steps on."""

    squash_actions: bool = False
    """Pass continuous actions through tanh into the bounds, instead of clipping them."""

    scale_actions: bool = True
    """Take the bounds of continuous actions as their units: finite ones are -1 and 1 for the policy."""

    initial_log_std: float = 0.0
    """Initial log standard deviation of continuous actions, in the policy's units."""

    normalize_observations: bool = True
    """Normalise what is seen by running means and deviations: vectors of floats, previous rewards."""

    scale_rewards: bool = True
    """Divide the critic's targets by the running deviation of discounted returns."""

    popart: bool = False
    """Normalise the critic's targets by their running mean and deviation; its values are preserved when these change
    (van Hasselt et al. 2016)."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range, and read a cell that is a file: what it holds then is part of the settings."""
        check_ranges(self)
        name, options = cell_of_file(self.cell, self.cell_kwargs)
        object.__setattr__(self, "cell", name)
        object.__setattr__(self, "cell_kwargs", options)
        if name == "graph" and options.get("graph") is not None:
            graph_from_table(options["graph"])
        check_memory_length(self.memory_length, self.memory_init)

    @property
    def cell_identity(self) -> str:
        """The name of the cell, for a graph with a hash of it: weights of the one don't fit the other."""
        graph = self.cell_kwargs.get("graph") if self.cell == "graph" else None
        return self.cell if graph is None else f"{self.cell} {graph_from_table(graph).digest}"
