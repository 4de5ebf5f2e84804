"""How long a memory lasts: episodes played with no more than the last L steps in mind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.trees import tree_map
from rlstm.evaluation.evaluate import Player
from rlstm.policies.acting import SnapshotActor
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.play import ChooseActions
from rlstm.vector.adapter import SteppedEnvs


@dataclass
class WindowReturn:
    """What is reached with the last L steps in mind, the present one included."""

    window: int
    mean: float
    error: float  # Standard error of the difference to the whole memory's return, episode by episode.
    difference: float  # Mean of it: what the shorter memory loses.

    @property
    def is_lost(self) -> bool:
        """Whether return is lost, more than its standard error and more than rounding."""
        return self.difference > self.error and self.difference > 1e-6 * max(1.0, abs(self.mean))


@dataclass
class MemoryLength:
    """How far back memory matters for the return."""

    steps: int  # The largest lag at which losing what came before loses return; 0 if none does.
    whole: float  # Mean return with all of the memory.
    windows: list[WindowReturn]  # By their length.


class _WindowActor:
    """Acts with a memory of the last L steps: it is made anew at every step from what was seen there."""

    def __init__(self, policy: RecurrentPolicy, window: int, generator: torch.Generator | None) -> None:
        self._policy, self._snapshot = policy, policy.acting_snapshot(generator)
        self._deterministic = generator is None
        self._seen: deque[tuple[PolicyInputs, Tensor]] = deque(maxlen=window - 1)
        self._window = window

    def __call__(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        state = self._policy.init_state(len(is_first))
        first = is_first
        if self._seen:
            together = [_stack([one[index] for one, _ in self._seen]) for index in range(len(inputs))]
            resets = torch.stack([one for _, one in self._seen])
            resets[0] = True
            state = self._policy.replay_state(PolicyInputs(*together), resets, state)
        elif self._window == 1:
            first = torch.ones_like(is_first)
        actions, _ = self._snapshot.act(inputs, state, first, deterministic=self._deterministic)
        if self._window > 1:
            self._seen.append((tree_map(_copy, inputs), is_first.clone()))
        return actions


def _copy(leaf: Any) -> Any:
    return None if leaf is None else leaf.clone()


def _stack(parts: Sequence[Any]) -> Any:
    return None if parts[0] is None else tree_map(lambda *leaves: torch.stack(leaves), *parts)


def memory_length(
    policy: RecurrentPolicy,
    make_envs: Callable[[], Any],
    seeds: Sequence[int],
    *,
    deterministic: bool,
    max_steps: int,
    report: Callable[[str], None] = lambda text: None,
) -> MemoryLength:
    """Find the effective memory length by halving: longer windows are taken to lose no more than shorter ones.

    Args:
        policy: What acts.
        make_envs: Makes the envs, one for each seed, as a context; episodes are the same for every window.
        seeds: Of the envs, each of which plays one episode, or one trial.
        deterministic: Whether to take the likeliest actions.
        max_steps: Steps after which an episode is cut.
        report: Is told what is played.
    """
    per_env = policy.memory.episodes_per_trial or 1

    def play(window: int | None) -> Any:
        source = None if deterministic else torch.Generator(policy.device).manual_seed(0)
        actor: ChooseActions
        if window is None:
            options = {"deterministic": deterministic}
            actor = SnapshotActor(policy.acting_snapshot(source), policy.init_state(len(seeds)), **options)
        else:
            actor = _WindowActor(policy, window, source)
        with make_envs() as envs, torch.inference_mode():
            return _returns(policy, envs, seeds, actor, max_steps, per_env)

    report("the whole memory")
    whole, longest = play(None)
    found: dict[int, WindowReturn] = {}

    def look(window: int) -> WindowReturn:
        if window not in found:
            report(f"a memory of {window} steps")
            returns, _ = play(window)
            lost = whole - returns
            error = float(lost.std(ddof=1) / np.sqrt(len(lost))) if len(lost) > 1 else 0.0
            found[window] = WindowReturn(window, float(returns.mean()), error, float(lost.mean()))
        return found[window]

    low, high = 0, 1  # Something is lost with ``low`` steps, nothing with ``high``.
    while high < longest and look(high).is_lost:
        low, high = high, high * 2
    high = min(high, longest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if look(middle).is_lost else (low, middle)
    return MemoryLength(low, float(whole.mean()), [found[window] for window in sorted(found)])


def _returns(
    policy: RecurrentPolicy, envs: SteppedEnvs, seeds: Sequence[int], actor: ChooseActions, max_steps: int, per_env: int
) -> tuple[Any, int]:
    """Return the returns of each env's episodes together, ``(B,)``, and the steps of the longest."""
    player = Player(policy, envs, seeds, max_steps)
    while (player.played < per_env).any():
        player.step(actor)
    rows = [episodes[:per_env] for episodes in player.episodes]
    returns = np.array([sum(row[0] for row in one) for one in rows])
    return returns, max(int(sum(row[1] for row in one)) for one in rows)
