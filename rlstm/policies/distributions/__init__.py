"""Distributions over actions, one class a family of action spaces.

A distribution is a module, because a Gaussian owns its log standard deviation. Parameters are ``(..., P)`` as put out
by the policy head; actions are ``(..., *action_shape)``; masks ``(..., M)`` are True where an action is allowed.
"""

from rlstm.policies.distributions.base import ActionDistribution
from rlstm.policies.distributions.categorical import Bernoulli, Categorical, MultiCategorical
from rlstm.policies.distributions.gaussian import Gaussian
from rlstm.policies.distributions.make import make_distribution

__all__ = ["ActionDistribution", "Bernoulli", "Categorical", "Gaussian", "MultiCategorical", "make_distribution"]
