"""Contract checks for your own classes, and probe envs whose values are known.

``check_cell`` holds a memory cell to all that the rest of the library relies on. In a test of your own::

    from rlstm.testing import check_cell

    def test_my_cell() -> None:
        check_cell(MyCell)

The probe envs come from ``rlstm.testing.probe_envs``.
"""

from rlstm.testing.cells import ContractError, check_cell, reset_patterns
from rlstm.testing.probe_envs import (
    ActionEnv,
    CarriedSignEnv,
    ConstantValueEnv,
    DiscountEnv,
    ForgetEnv,
    KeyEnv,
    ObservationValueEnv,
    ProbeEnv,
    RecallEnv,
    SecretEnv,
)

__all__ = [
    "ActionEnv",
    "CarriedSignEnv",
    "ConstantValueEnv",
    "ContractError",
    "DiscountEnv",
    "ForgetEnv",
    "KeyEnv",
    "ObservationValueEnv",
    "ProbeEnv",
    "RecallEnv",
    "SecretEnv",
    "check_cell",
    "reset_patterns",
]
