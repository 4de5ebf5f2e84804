"""Evaluation of what can't act: a memory that reads the future too answers an episode when it has read it whole.

That works where what is seen doesn't depend on what is answered. The episodes are played once with any answers, to see
them; they are read; and they are played again from the same seeds, with the answers. So returns and successes are those
of any evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy


class Reader:
    """Sees all steps of some envs, then answers them in their order.

    Args:
        policy: Reads.
        num_envs: B.
        deterministic: Take the likeliest answers instead of sampling.
        ablate_memory: Reset the memory at every step, so that each is read alone.
        generator: Draws the sampled answers.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        num_envs: int,
        *,
        deterministic: bool,
        ablate_memory: bool,
        generator: torch.Generator,
    ) -> None:
        self._policy, self._deterministic, self._ablate_memory = policy, deterministic, ablate_memory
        self._generator = generator
        self._nothing = torch.zeros(num_envs, policy.distribution.num_parameters).to(policy.device, policy.dtype)
        self._seen: list[tuple[PolicyInputs, Tensor]] = []
        self._answers: Tensor | None = None
        self._step = 0

    def see(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        """Keep what is seen at a step; returns any answers ``(B, ...)``."""
        self._seen.append((inputs, is_first.clone()))
        return self._policy.distribution.mode(self._nothing, inputs.action_masks)

    def read(self) -> None:
        """Read all that was seen, and decide the answers."""
        policy = self._policy
        inputs, is_first = tree_map(lambda *leaves: torch.stack(leaves), self._seen[0], *self._seen[1:])
        parts = torch.ones_like(is_first) if self._ablate_memory else is_first
        outputs = policy.outputs(inputs, parts, policy.init_state(is_first.shape[1]))
        if self._deterministic and not policy.distribution.is_random:
            self._answers = policy.distribution.mode(outputs, inputs.action_masks)
            return
        noise = policy.distribution.draw_noise(tuple(outputs.shape[:2]), self._generator, outputs)
        self._answers = policy.distribution.sample(outputs, inputs.action_masks, noise)

    def answer(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        """Return the answers ``(B, ...)`` to the next step.

        Raises:
            EnvironmentFailure: If it is not the one that was seen.
        """
        assert self._answers is not None
        seen, self._step = self._seen[self._step], self._step + 1
        pairs = zip(tree_leaves(seen), tree_leaves((inputs, is_first)), strict=True)
        if not all(torch.equal(one, other) for one, other in pairs):
            raise EnvironmentFailure(
                f"A bidirectional memory reads an episode before it answers, but the env showed something else at step "
                f"{self._step} when it was played again with the answers: what it shows depends on actions, or not on "
                "the seed alone. Train without --bidirectional."
            )
        return self._answers[self._step - 1]
