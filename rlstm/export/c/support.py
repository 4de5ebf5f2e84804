"""Which policies can be written in C, and why the others can't."""

from __future__ import annotations

import torch

from rlstm.export.c.actions import ACTION_FORMS
from rlstm.export.c.cells import CELL_FORMS, bare, layers_of, name_of_form
from rlstm.policies.encoders import ENCODERS
from rlstm.policies.encoders.numbers import NumbersEncoder
from rlstm.policies.encoders.symbols import OneHotEncoder
from rlstm.policies.policy import RecurrentPolicy


def can_write_c(policy: RecurrentPolicy) -> str | None:
    """Return why a policy can't be written in C, naming what can; None if it can."""
    if policy.dtype != torch.float32:
        return f"The weights are {policy.dtype}, in C they are float32: call .float() on the policy, which rounds them."
    if any(name_of_form(bare(layer)) is None for trunk in policy.trunks() for layer in layers_of(trunk.cell)):
        return f"The cell '{policy.config.cell}' can't be written in C; these can: {', '.join(CELL_FORMS)}."
    for path, space, encoder in policy.actor.encoder.parts:
        if type(encoder) not in (NumbersEncoder, OneHotEncoder):
            names = [*(name for name, one in ENCODERS.items() if one is type(encoder)), type(encoder).__name__]
            place = f" at {'/'.join(map(str, path))}" if path else ""
            return (
                f"The encoder '{names[0]}', which reads the observation {space}{place}, can't be written in C; "
                "these can: mlp and one_hot, for numbers and symbols, not images."
            )
    if policy.distribution.is_random or type(policy.distribution) not in ACTION_FORMS:
        return (
            f"Actions of {type(policy.distribution).__name__} can't be written in C; those that were learnt for "
            "Discrete, MultiDiscrete, MultiBinary and Box can."
        )
    if not all(torch.isfinite(value).all() for value in policy.state_dict().values()):
        return "Some weights are not finite numbers; those of another checkpoint may be."
    return None
