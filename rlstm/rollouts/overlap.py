"""Overlap: the next rollout is collected, by a thread, while the present one is learnt from.

::

    the run's thread     | learn from k: weights k become k + 1        | learn from k + 1 ...
    the collector's      | refresh the state, collect k + 1: weights k | collect k + 2: weights k + 1 ...

The collector acts with a copy of the weights and normalisers, made before learning begins. So a rollout is one update
old when it is learnt from, which has to be corrected for (``rlstm.losses.returns.vtrace``). The envs, the collector's
state and the generator of actions are the collector's until it is done, and it is waited for before an update ends:
whichever is the faster, a run is the same to the last bit, and between two updates nothing moves.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch

from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, collect, refresh_state
from rlstm.rollouts.rollout import Rollout
from rlstm.vector.adapter import EnvStep, SteppedEnvs

_PATIENCE = 10.0  # Seconds for the step that the envs are taking when the run stops.
_TREES = ("inputs", "initial_state")  # Fields of a rollout that are no single tensors.


@dataclass
class Meanwhile:
    """What is told of a collection once it is over."""

    metrics: dict[str, float] = field(default_factory=dict)  # Of the state that was refreshed.
    seconds_waited: float = 0.0  # After learning was done.


class _Stopped(Exception):
    """A collection that nobody waits for any more."""


class Overlap:
    """Collects the next rollout with a copy of the weights, beside learning.

    Args:
        policy: What is trained; its generator draws the actions.
        num_steps: Steps T of a rollout.
        refreshes: Whether the carried state is replaced by the one that the weights which act give the same past.
    """

    def __init__(self, policy: RecurrentPolicy, num_steps: int, *, refreshes: bool) -> None:
        self._policy, self._num_steps, self._refreshes = policy, num_steps, refreshes
        self._acting = copy.deepcopy(policy, {id(policy.generator): policy.generator}).requires_grad_(False)
        self._next: Rollout | BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the collection has failed, which ``take`` will raise: the envs can't go on."""
        return isinstance(self._next, BaseException)

    def take(self) -> Rollout | None:
        """Return the rollout that was collected, once; None if there is none.

        Raises:
            EnvironmentFailure: If an env broke, or whatever else the collection has raised.
        """
        taken, self._next = self._next, None
        if isinstance(taken, BaseException):
            self._next = taken  # Nothing is collected with envs that are broken.
            raise taken
        return taken

    @contextmanager
    def collecting(self, envs: SteppedEnvs, collector_state: CollectorState, rollout: Rollout) -> Iterator[Meanwhile]:
        """Collect what follows a rollout while the body learns from it; waits for it in the end.

        If the body fails, Ctrl-C for instance, the collection stops after the step that the envs are taking.
        """
        self._acting.load_state_dict(self._policy.state_dict())
        meanwhile, stop = Meanwhile(), threading.Event()
        arguments = _StoppableEnvs(envs, stop), collector_state, rollout, meanwhile
        thread = threading.Thread(target=self._collect, args=arguments, name="rlstm-collector", daemon=True)
        thread.start()
        try:
            yield meanwhile
            began = time.perf_counter()
            thread.join()
            meanwhile.seconds_waited = time.perf_counter() - began
        except BaseException:
            stop.set()
            thread.join(_PATIENCE)
            raise

    def _collect(
        self, envs: SteppedEnvs, collector_state: CollectorState, rollout: Rollout, meanwhile: Meanwhile
    ) -> None:
        """Collect the next rollout, or keep what went wrong."""
        try:
            if self._refreshes:
                meanwhile.metrics = refresh_state(self._acting, rollout, collector_state)
            collected = collect(self._acting, envs, collector_state, self._num_steps)
            self._next = dataclasses.replace(collected, replay_error=_replay_error(self._acting, collected))
        except BaseException as error:  # Envs may raise SystemExit too; it is raised where the rollout is taken.
            self._next = error

    def state_dict(self) -> dict[str, Any] | None:
        """Return the rollout that was collected as plain containers and tensors; None if there is none."""
        if not isinstance(self._next, Rollout):
            return None
        fields = {one.name: getattr(self._next, one.name) for one in dataclasses.fields(Rollout)}
        return {**fields, **{name: tree_leaves(fields[name]) for name in _TREES}}

    def load_state_dict(self, values: dict[str, Any] | None, collector_state: CollectorState) -> None:
        """Load what ``state_dict`` returned; the structure of inputs and states is that of the collector's state."""
        self._next = None
        if values is not None:
            structures = collector_state.tracker.inputs(), collector_state.state
            trees = {name: _filled(one, values[name]) for name, one in zip(_TREES, structures, strict=True)}
            self._next = Rollout(**{**values, **trees}).to(self._policy.device)


class _StoppableEnvs:
    """Envs that refuse the next step once they shall stop; ``SteppedEnvs``."""

    def __init__(self, envs: SteppedEnvs, stop: threading.Event) -> None:
        self._envs, self._stop = envs, stop
        self.num_envs, self.log_info = envs.num_envs, envs.log_info

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Reset every env."""
        return self._envs.reset(seeds)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step every env."""
        if self._stop.is_set():
            raise _Stopped
        return self._envs.step(actions)


@torch.no_grad()
def _replay_error(policy: RecurrentPolicy, rollout: Rollout) -> float:
    """Return the largest |ρ - 1| of the weights that acted: 0 but for rounding."""
    return float(((rollout.replay(policy).log_probs - rollout.log_probs).exp() - 1).abs().max())


def _filled(structure: Tree, leaves: Sequence[Any]) -> Tree:
    """Return a tree of the structure, with other leaves."""
    following = iter(leaves)
    return tree_map(lambda _: next(following), structure)
