"""`python -m rlstm`: the same as the command `rlstm`."""

import sys

from rlstm.cli import main

if __name__ == "__main__":
    sys.exit(main())
