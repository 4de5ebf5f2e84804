"""Policies as C99 without dependencies, for programs and machines without Python.

``write_c`` writes a header and a source file, ``can_write_c`` tells why it can't, and ``check_c`` compiles them and
compares them with the policy, step by step. A memory cell is one function in ``functions`` and one line in ``cells``.
"""

from rlstm.export.c.check import check_c
from rlstm.export.c.compiled import CExportError
from rlstm.export.c.files import write_c
from rlstm.export.c.support import can_write_c

__all__ = ["CExportError", "can_write_c", "check_c", "write_c"]
