"""A policy's program, put together from its parts."""

from __future__ import annotations

from rlstm.export.c.actions import ACTION_FORMS
from rlstm.export.c.cells import write_cell
from rlstm.export.c.inputs import observation_parts, read_inputs, write_inputs
from rlstm.export.c.layers import write_layers
from rlstm.export.c.program import Member, Program, Vector, number
from rlstm.policies.policy import RecurrentPolicy

TRUNK_NAMES = ("actor", "critic")


def build_program(policy: RecurrentPolicy, name: str) -> Program:
    """Return the C of a policy that ``can_write_c`` accepts."""
    program, form = Program(name), ACTION_FORMS[type(policy.distribution)]
    remembers, outputs = bool(policy.inputs.previous_action), policy.distribution.num_parameters
    inputs = write_inputs(program, policy, observation_parts(policy.actor.encoder))
    features = []
    for trunk_name, trunk in zip(TRUNK_NAMES, policy.trunks(), strict=False):
        program.lines.append(f"/* The {trunk_name}'s encoder and memory. */")
        read_inputs(program, trunk_name, trunk.encoder, inputs)
        encoded = write_layers(program, f"{trunk_name}_layer", trunk.encoder.layers, inputs)
        features.append(write_cell(program, trunk_name, trunk.cell, encoded))
        program.lines.append("")
    program.lines.append("/* The heads. */")
    _write_heads(program, policy, features)
    program.lines += ["", "/* The action. */"]
    form.write(program, policy.distribution, remembers)
    program.output.append(Member("parameters", "float", outputs, form.parameters))
    program.output.append(Member("value", "float", None, "Estimated return from here on, in raw rewards."))
    program.state.append(Member("is_first", "uint8_t", None, "1 from a reset to the end of the step behind it."))
    program.lines.append("state->is_first = 0;")
    return program


def _write_heads(program: Program, policy: RecurrentPolicy, features: list[Vector]) -> None:
    parameters = program.size_of("parameters")
    into = Vector("output->parameters", parameters, policy.distribution.num_parameters)
    write_layers(program, "policy_head", policy.policy_head, features[0], into)
    write_layers(program, "value_head", policy.value_head, features[-1], Vector("&output->value", "1", 1))
    centre, scale = (number(float(one), "float") for one in (policy.return_centre, policy.return_scale))
    begin = "" if float(policy.return_centre) == 0 else f"{centre} + "
    program.lines.append(f"output->value = {begin}{scale} * output->value;")
