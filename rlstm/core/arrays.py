"""Names and types of numpy arrays that envs and library share; imports numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ACTION_MASK_KEY = "action_mask"
"""Key of the action mask in an info, and in a Dict observation."""

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
