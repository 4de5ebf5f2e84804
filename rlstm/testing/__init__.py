"""Contract checks for your own classes, and probe envs whose values are known.

``check_cell`` holds a memory cell to all that the rest of the library relies on. In a test of your own::

    from rlstm.testing import check_cell

    def test_my_cell() -> None:
        check_cell(MyCell)

The probe envs come from ``rlstm.testing.probe_envs``.
"""

from rlstm.testing.cells import ContractError, check_cell, reset_patterns
from rlstm.testing.probe_envs import *  # noqa: F403
from rlstm.testing.probe_envs import __all__ as _probes

__all__ = ["ContractError", "check_cell", "reset_patterns"]
__all__ += _probes
