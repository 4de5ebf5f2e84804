"""Distributions over actions: from the parameters to an action, and from the action before to features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlstm.export.c.bounds import of_numbers
from rlstm.export.c.program import Member, Program
from rlstm.policies.distributions import ActionDistribution, Bernoulli, Categorical, Gaussian, MultiCategorical

_UNIFORM = "NULL takes the likeliest action; numbers drawn uniformly from (0, 1), without the ends, a random one."
_NORMAL = "NULL takes the likeliest action; numbers drawn from the standard normal distribution a random one."
_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class ActionForm:
    """How a distribution is written; each function is told whether the policy sees its previous action."""

    write: Callable[[Program, Any, bool], None]
    """Adds the action to the output, the previous one to the state, and the lines that choose."""
    features: Callable[[Program], list[str]]
    """Returns the lines that write the previous action as features to ``at``, zeros where there is none."""
    parameters: str
    """What the parameters are."""
    noise: str = _UNIFORM


def int_type(*values: int) -> str:
    """Return the C type that holds such whole numbers."""
    return "int32_t" if all(abs(value) <= _LARGEST_INT32 for value in values) else "int64_t"


def _write_choice(program: Program, distribution: Categorical, remembers: bool) -> None:
    start, last = distribution.start, distribution.start + distribution.num_parameters - 1
    program.output.append(Member("action", int_type(start, last), None, f"From {start} to {last}."))
    program.functions.add("choose")
    size = program.size_of("parameters")
    program.lines.append(f"int chosen = choose(output->parameters, input->action_mask, input->noise, {size});")
    program.lines.append(f"output->action = chosen{f' + {start}' if start else ''};")
    if remembers:
        program.state.append(Member("previous_action", "int32_t", None, "Its number from 1 on; 0 where there is none."))
        program.lines.append("state->previous_action = chosen + 1;")


def _choice_features(program: Program) -> list[str]:
    program.functions.add("one_hot")
    return [f"at = one_hot(at, state->previous_action - 1, {program.size_of('parameters')});"]


def _write_choices(program: Program, distribution: MultiCategorical, remembers: bool) -> None:
    sizes, starts = distribution.sizes, distribution.start.reshape(-1).tolist()
    ends = [start + size - 1 for start, size in zip(starts, sizes, strict=True)]
    c_type, ranges = int_type(*starts, *ends), of_numbers(np.array(starts), np.array(ends))
    program.output.append(Member("action", c_type, len(sizes), f"{ranges}."))
    program.functions.add("choose")
    program.array("action_counts", sizes, "int32_t")
    program.array("action_starts", starts, c_type)
    program.lines += [
        f"for (int i = 0, at = 0; i < {program.size_of('action')}; at += action_counts[i], i++) {{",
        "    const uint8_t *mask = input->action_mask == NULL ? NULL : input->action_mask + at;",
        "    const float *noise = input->noise == NULL ? NULL : input->noise + at;",
        "    int chosen = choose(output->parameters + at, mask, noise, action_counts[i]);",
        "    output->action[i] = chosen + action_starts[i];",
        *(["    state->previous_action[i] = chosen + 1;"] * remembers),
        "}",
    ]
    if remembers:
        meaning = "Their numbers from 1 on; 0 where there are none."
        program.state.append(Member("previous_action", "int32_t", len(sizes), meaning))


def _choices_features(program: Program) -> list[str]:
    program.functions.add("one_hot")
    loop = f"for (int i = 0; i < {program.size_of('previous_action')}; i++)"
    return [loop, "    at = one_hot(at, state->previous_action[i] - 1, action_counts[i]);"]


def _write_bits(program: Program, distribution: Bernoulli, remembers: bool) -> None:
    program.output.append(Member("action", "int8_t", distribution.num_parameters, "0 or 1."))
    program.lines += [
        f"for (int i = 0; i < {program.size_of('action')}; i++) {{",
        "    float score = output->parameters[i];",
        "    if (input->noise != NULL)",
        "        score += logf(input->noise[i]) - log1pf(-input->noise[i]);",
        "    output->action[i] = score > 0.0f;",
        *(["    state->previous_action[i] = output->action[i];"] * remembers),
        "}",
    ]
    if remembers:
        program.state.append(Member("previous_action", "int8_t", distribution.num_parameters, "0 or 1."))


def _number_features(program: Program) -> list[str]:
    loop = f"for (int i = 0; i < {program.size_of('previous_action')}; i++)"
    return [loop, "    *at++ = state->previous_action[i];"]


def _write_numbers(program: Program, distribution: Gaussian, remembers: bool) -> None:
    c_type = "double" if np.dtype(distribution.env_dtype).itemsize > 4 else "float"
    low, high = distribution.env_low, distribution.env_high
    program.output.append(Member("action", c_type, distribution.num_parameters, f"{of_numbers(low, high)}."))
    bounds = {"action_low": low, "action_high": high}
    scaled = bool((distribution.centre != 0).any() or (distribution.scale != 1).any())
    if scaled:
        bounds |= {"action_centre": distribution.centre, "action_scale": distribution.scale}
    for name, values in bounds.items():
        program.array(name, values, c_type)
    program.array("action_deviation", distribution.log_std.detach().exp())
    clamp, own = ("clamp_double", "(double)u") if c_type == "double" else ("clamp", "u")
    program.functions.add(clamp)
    program.lines += [
        f"for (int i = 0; i < {program.size_of('action')}; i++) {{",
        "    float u = output->parameters[i];",
        "    if (input->noise != NULL)",
        "        u += action_deviation[i] * input->noise[i];",
        *(["    u = tanhf(u);"] * distribution.squash),
        *(_remember_numbers(program, distribution) if remembers else []),
        f"    {c_type} action = {f'action_centre[i] + action_scale[i] * {own}' if scaled else own};",
        f"    output->action[i] = {clamp}(action, action_low[i], action_high[i]);",
        "}",
    ]


def _remember_numbers(program: Program, distribution: Gaussian) -> list[str]:
    meaning = "As the network reads it."
    program.state.append(Member("previous_action", "float", distribution.num_parameters, meaning))
    if distribution.squash:
        return ["    state->previous_action[i] = u;"]
    program.functions.add("clamp")
    for name, values in (("action_least", distribution.low), ("action_most", distribution.high)):
        program.array(name, values)
    return ["    state->previous_action[i] = clamp(u, action_least[i], action_most[i]);"]


ACTION_FORMS: dict[type[ActionDistribution], ActionForm] = {
    Categorical: ActionForm(_write_choice, _choice_features, "Logits, before the mask."),
    MultiCategorical: ActionForm(_write_choices, _choices_features, "Logits of all choices, before the mask."),
    Bernoulli: ActionForm(_write_bits, _number_features, "Logits."),
    Gaussian: ActionForm(_write_numbers, _number_features, "Means, before squash, scale and bounds.", _NORMAL),
}
"""The distributions that can be written."""
