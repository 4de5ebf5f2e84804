"""Feed-forward layers, of encoders and heads, as lines of a step."""

from __future__ import annotations

import itertools

from torch import nn

from rlstm.export.c.program import Program, Vector
from rlstm.policies.layers import HighwayLayer


def write_layers(program: Program, name: str, layers: nn.Sequential, x: Vector, into: Vector | None = None) -> Vector:
    """Add linear, tanh and highway layers, and return where the last one writes: ``into``, if it is given."""
    modules = [*layers, None]
    for index, (layer, after) in enumerate(itertools.pairwise(modules)):
        if isinstance(layer, HighwayLayer):
            arguments = _arrays(program, f"{name}_{index}", layer.linear)
            both = program.buffer(f"{name}_{index}_both", layer.linear.out_features)
            y = program.buffer(f"{name}_{index}", x.length)
            program.call("highway", *arguments, x, y, both.expression)
            x = y
        elif isinstance(layer, nn.Linear):
            arguments = _arrays(program, f"{name}_{index}", layer)
            y = into if into is not None and after is None else program.buffer(f"{name}_{index}", layer.out_features)
            program.call("tanh_layer" if isinstance(after, nn.Tanh) else "linear", *arguments, x, y)
            x = y
    return x


def _arrays(program: Program, name: str, layer: nn.Linear) -> list[str]:
    return [program.array(f"{name}_weight", layer.weight), program.array(f"{name}_bias", layer.bias)]
