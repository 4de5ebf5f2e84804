"""A policy as a header and a source file."""

from __future__ import annotations

import ctypes
import re
import textwrap
from pathlib import Path

from rlstm.core.files import write_atomically
from rlstm.core.version import __version__
from rlstm.export.c.build import build_program
from rlstm.export.c.functions import needed
from rlstm.export.c.program import Program
from rlstm.export.c.structures import declaration, sizes, structure
from rlstm.export.c.support import can_write_c
from rlstm.policies.policy import RecurrentPolicy

_RESETS = {
    "episode": "before the first step of every episode.",
    "trial": "before the first step of every trial of {trial} episodes, and not between its episodes.",
    "lifelong": "once, before the first step of all: the memory is never emptied.",
}

_WIDTH = 110  # Of lines.

_HEADER = """\
/*
{description}
 */
#ifndef {guard}
#define {guard}

#include <stdint.h>

{sizes}
/* What a step is given. All zeros but the observation: every action allowed, and the likeliest one taken. */
{input}
/* What a step returns. */
{output}
/* What a policy remembers from step to step; each agent has its own. */
{state}
#ifdef __cplusplus
extern "C" {{
#endif

void {name}_reset({name}_state *state);
void {name}_step({name}_state *state, const {name}_input *input, {name}_output *output);

#ifdef __cplusplus
}}
#endif

#endif
"""

_SOURCE = """\
{summary}
#include "{name}.h"

#include <math.h>
#include <string.h>

{sizes}
{arrays}
{functions}
void {name}_reset({name}_state *state)
{{
    memset(state, 0, sizeof *state);
    state->is_first = 1;
}}

void {name}_step({name}_state *state, const {name}_input *input, {name}_output *output)
{{
{step}
}}
"""


def write_c(policy: RecurrentPolicy, folder: Path, name: str = "policy") -> list[Path]:
    """Write a policy as ``name.h`` and ``name.c``; the same policy gives the same bytes.

    Args:
        policy: Its weights and statistics are written as they are now.
        folder: Is made if it isn't there; files of these names are replaced.
        name: What the files and every public name in them begin with.

    Returns:
        The header and the source.

    Raises:
        ValueError: If the policy can't be written (see ``can_write_c``), or the name is none in C. Nothing is written.
    """
    if reason := can_write_c(policy):
        raise ValueError(reason)
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"The name is '{name}'; it must be letters, digits and _, a letter first.")
    program = build_program(policy, name)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{name}.h": header_text(program, policy), folder / f"{name}.c": _source(program, policy)}
    for path, text in texts.items():
        write_atomically(path, text.encode())
    return list(texts)


def header_text(program: Program, policy: RecurrentPolicy) -> str:
    """Return the header of a policy's program."""
    return _HEADER.format(
        description=_description(program, policy),
        guard=f"{program.name}_H".upper(),
        name=program.name,
        sizes=sizes(program),
        input=declaration(program, "input", program.input),
        output=declaration(program, "output", program.output),
        state=declaration(program, "state", program.state),
    )


def _source(program: Program, policy: RecurrentPolicy) -> str:
    buffers = [f"    {line}" for line in program.buffers]
    return _SOURCE.format(
        summary=textwrap.fill(f"/* {_summary(policy)} See {program.name}.h. */", _WIDTH, subsequent_indent="   "),
        name=program.name,
        sizes="".join(f"#define {name} {size}\n" for name, size in program.sizes.items()),
        arrays="\n".join(program.arrays),
        functions="\n".join([*needed(program.functions), *program.own_functions]),
        step="\n".join([*buffers, "", *(line for one in program.lines for line in _wrapped(one))]),
    )


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH, initial_indent="    ", subsequent_indent="        ") or [""]


def _summary(policy: RecurrentPolicy) -> str:
    config = policy.config
    layers = f"{config.num_layers} layers of {config.hidden_size}" if config.num_layers > 1 else config.hidden_size
    return f"A recurrent policy with the memory cell '{config.cell}', {layers}, written by rlstm {__version__}."


def _description(program: Program, policy: RecurrentPolicy) -> str:
    name = program.name
    resets = _RESETS[policy.memory.lifetime].format(trial=policy.memory.episodes_per_trial)
    state, taken, given = (ctypes.sizeof(structure(one)) for one in (program.state, program.input, program.output))
    paragraphs = [
        f"{_summary(policy)} It is C99 and needs the C library's math alone; it allocates nothing, and keeps nothing "
        f"but what {name}_state holds.",
        f"Call {name}_reset {resets} At every step fill in a {name}_input, call {name}_step, and take the action of "
        f"the {name}_output. All numbers must be finite.",
        f"Bytes: {program.array_bytes:,} of constants (flash); {state:,} of state; in a step {4 * _floats(program):,} "
        f"on the stack, beside {taken:,} of input and {given:,} of output where pointers have 64 bits.",
    ]
    wrapped = [textwrap.fill(one, _WIDTH, initial_indent=" * ", subsequent_indent=" * ") for one in paragraphs]
    return "\n *\n".join(wrapped)


def _floats(program: Program) -> int:
    return sum(program.sizes.values())
