"""What a step is given, and the C function that turns it into what the first layer reads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from rlstm.export.c.actions import ACTION_FORMS, int_type
from rlstm.export.c.bounds import of_numbers
from rlstm.export.c.program import Member, Program, Vector, number
from rlstm.policies.encoders.symbols import OneHotEncoder
from rlstm.policies.observations import ObservationEncoder
from rlstm.policies.policy import RecurrentPolicy


class Part(NamedTuple):
    """A part of an observation."""

    path: tuple[Any, ...]  # From the whole observation to it.
    space: spaces.Space[Any]
    member: Member  # Of the input.
    counts: list[int]  # Of its symbols; none for numbers.


def observation_parts(encoder: ObservationEncoder) -> list[Part]:
    """Return the parts of an observation in the order in which they are read, each with a name of its own."""
    parts, names = [], set[str]()
    for path, space, one in encoder.parts:
        name = "_".join(["observation", *(re.sub(r"\W", "_", str(key), flags=re.ASCII) for key in path)])
        while name.upper() in names:
            name += "_"
        names.add(name.upper())
        counts = one.counts if isinstance(one, OneHotEncoder) else []
        place = f" at {'/'.join(re.sub(r'[^ -)+-~]', '_', str(key)) for key in path)}" if path else ""
        parts.append(Part(path, space, _member(name, space, place), counts))
    return parts


def _member(name: str, space: spaces.Space[Any], place: str) -> Member:
    if isinstance(space, spaces.Discrete):
        start, last = int(space.start), int(space.start + space.n - 1)
        return Member(name, int_type(start, last), None, f"Observation{place}: from {start} to {last}.")
    shape = f", shape {space.shape}, flat in C order" if len(space.shape or ()) > 1 else ""
    if isinstance(space, spaces.MultiDiscrete):
        starts = np.asarray(space.start).reshape(-1)
        ends = starts + np.asarray(space.nvec).reshape(-1) - 1
        c_type, ranges = int_type(*starts.tolist(), *ends.tolist()), of_numbers(starts, ends)
    elif isinstance(space, spaces.MultiBinary):
        c_type, ranges = "int8_t", "0 or 1"
    else:
        c_type, ranges = _number_type(np.dtype(space.dtype)), of_numbers(*_bounds(space))
    return Member(name, c_type, math.prod(space.shape or ()), f"Observation{place}{shape}: {ranges}.")


def _bounds(space: Any) -> tuple[Any, Any]:
    kind = int if space.dtype.kind == "b" else space.dtype
    return space.low.astype(kind), space.high.astype(kind)


def _number_type(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "double" if dtype.itemsize > 4 else "float"
    if dtype.kind == "b":
        return "uint8_t"
    return "int64_t" if dtype.itemsize == 8 else f"{dtype.name}_t"


def write_inputs(program: Program, policy: RecurrentPolicy, parts: list[Part]) -> Vector:
    """Add the members of the input, and the function that reads them; return where it writes."""
    seen, distribution = policy.inputs, policy.distribution
    program.input += [part.member for part in parts]
    if seen.previous_reward:
        program.input.append(Member("reward", "float", None, "What the action before brought; 0 at first."))
    if seen.episode_start:
        meaning = "1 at the first step of an episode, else 0; after a reset it is taken to be 1."
        program.input.append(Member("episode_start", "uint8_t", None, meaning))
    if distribution.mask_size is not None:
        meaning = "NULL allows all actions; else 1 for those that are allowed, in the order of the parameters."
        program.input.append(Member("action_mask", "uint8_t", distribution.mask_size, meaning, is_pointer=True))
    noise = ACTION_FORMS[type(distribution)].noise
    program.input.append(Member("noise", "float", distribution.num_parameters, noise, is_pointer=True))
    lines = [*_observation_lines(program, policy, parts), *_extra_lines(program, policy)]
    program.own_functions.append(_function(program, policy, lines))
    size = sum(sum(part.counts) or part.member.size or 0 for part in parts)
    extras = distribution.num_features * bool(seen.previous_action)
    return program.buffer("inputs", size + extras + bool(seen.previous_reward) + bool(seen.episode_start))


def read_inputs(program: Program, name: str, encoder: ObservationEncoder, inputs: Vector) -> None:
    """Add the call that reads the inputs of a trunk, with its own statistics."""
    c_type, moments = real_type(encoder), encoder.moments
    arguments = ["state", "input"]
    if moments is not None:
        scale = (moments.variance + 1e-8).rsqrt()
        arguments += [
            program.array(f"{name}_{key}", values, c_type) for key, values in (("mean", moments.mean), ("scale", scale))
        ]
    program.lines.append(f"read_inputs({', '.join([*arguments, inputs.expression])});")


def real_type(encoder: ObservationEncoder) -> str:
    """Return in which type numbers are normalised: double where any of them has 64 bits."""
    vectors = [space for _, space, one in encoder.parts if one.takes_normalised and isinstance(space, spaces.Box)]
    kinds = [_number_type(np.dtype(space.dtype)) for space in vectors]
    return "float" if all(kind in ("float", "uint8_t", "int8_t") for kind in kinds) else "double"


def _function(program: Program, policy: RecurrentPolicy, lines: list[str]) -> str:
    c_type = real_type(policy.actor.encoder)
    statistics = f"const {c_type} *mean, const {c_type} *scale, " if policy.actor.encoder.moments is not None else ""
    unread = [] if any("state->" in line for line in lines) else ["(void)state;  /* Nothing of it is read here. */"]
    body = "\n".join(f"    {line}" for line in [*unread, *lines])
    given = f"const {program.name}_state *state, const {program.name}_input *input,\n    {statistics}float *at"
    return f"/* Write what the first layer reads. */\nstatic void read_inputs({given})\n{{\n{body}\n}}\n"


def _observation_lines(program: Program, policy: RecurrentPolicy, parts: list[Part]) -> Iterator[str]:
    encoder = policy.actor.encoder
    c_type = real_type(encoder)
    normalised = "normalised" if c_type == "float" else "normalised_double"
    for part in parts:
        name, size = part.member.name, program.size_of(part.member.name)
        loop = f"for (int i = 0; i < {size}; i++)"
        if part.counts:
            yield from _symbol_lines(program, part, loop)
        elif isinstance(part.space, spaces.Box) and encoder.moments is not None:
            program.functions.add(normalised)
            yield loop
            yield f"    *at++ = {normalised}(({c_type})input->{name}[i], *mean++, *scale++);"
        else:
            yield loop
            yield f"    *at++ = (float)input->{name}[i];"


def _symbol_lines(program: Program, part: Part, loop: str) -> Iterator[str]:
    program.functions.add("one_hot")
    name, starts = part.member.name, np.asarray(getattr(part.space, "start", 0)).reshape(-1).tolist()
    if part.member.size is None:
        symbol = f"input->{name} - {starts[0]}" if starts[0] else f"input->{name}"
        yield f"at = one_hot(at, {symbol}, {part.counts[0]});"
        return
    program.array(f"{name}_counts", part.counts, "int32_t")
    program.array(f"{name}_starts", starts, part.member.c_type)
    yield loop
    yield f"    at = one_hot(at, input->{name}[i] - {name}_starts[i], {name}_counts[i]);"


def _extra_lines(program: Program, policy: RecurrentPolicy) -> Iterator[str]:
    seen = policy.inputs
    if seen.previous_action:
        yield from ACTION_FORMS[type(policy.distribution)].features(program)
    if seen.previous_reward:
        reward = f"state->is_first ? 0.0f : input->reward / {number(float(policy.reward_scale), 'float')}"
        if policy.input_features.clips_rewards:
            program.functions.add("clamp")
            reward = f"clamp({reward}, -10.0f, 10.0f)"
        yield f"*at++ = {reward};"
    if seen.episode_start:
        yield "*at++ = state->is_first || input->episode_start ? 1.0f : 0.0f;"
