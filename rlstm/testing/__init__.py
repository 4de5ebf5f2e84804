"""Contract checks for your own classes, and probe envs whose values are known.

``check_cell`` holds a memory cell to all that the rest of the library relies on, ``check_encoder`` an encoder of
observations. In a test of your own::

    from rlstm.testing import check_cell, check_encoder

    def test_my_cell() -> None:
        check_cell(MyCell)

    def test_my_encoder() -> None:
        check_encoder(MyEncoder, gymnasium.spaces.Box(0.0, 1000.0, (24, 10)))

The probe envs come from ``rlstm.testing.probe_envs``.
"""

from rlstm.testing.cells import check_cell, reset_patterns
from rlstm.testing.contracts import ContractError
from rlstm.testing.encoders import check_encoder
from rlstm.testing.probe_envs import *  # noqa: F403
from rlstm.testing.probe_envs import __all__ as _probes

__all__ = ["ContractError", "check_cell", "check_encoder", "reset_patterns"]
__all__ += _probes
