"""The choice of a distribution by the action space."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlstm.core.errors import UnsupportedSpaceError
from rlstm.policies.distributions.base import ActionDistribution
from rlstm.policies.distributions.categorical import Bernoulli, Categorical, MultiCategorical
from rlstm.policies.distributions.gaussian import Gaussian


def make_distribution(
    space: spaces.Space[Any], *, squash: bool, scale: bool, initial_log_std: float
) -> ActionDistribution:
    """Return the distribution for an action space; the other arguments are those of ``Gaussian``.

    Raises:
        UnsupportedSpaceError: If no distribution fits, naming the spaces that are supported.
        ValueError: If a squash is asked for where there are no finite bounds.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(space)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Gaussian(space, squash=squash, scale=scale, initial_log_std=initial_log_std)
    raise UnsupportedSpaceError(
        f"Action space {space} is not supported. Supported: Discrete, MultiDiscrete, MultiBinary, and Box of floats."
    )
