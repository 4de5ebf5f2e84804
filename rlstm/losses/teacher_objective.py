"""What a policy is taught: which loss its outputs have, and how right they are."""

from __future__ import annotations

from gymnasium import spaces
from torch import Tensor

from rlstm.losses.ctc import LabelLoss, check_labels, label_loss
from rlstm.losses.teacher_losses import TaughtLoss, cross_entropy, squared_error
from rlstm.policies.distributions import Gaussian
from rlstm.policies.policy import RecurrentPolicy


class TeacherObjective:
    """A loss of what the policy head puts out.

    Args:
        policy: Its action space decides what an answer is.
        loss: squared, cross-entropy or ctc; auto for what fits: ctc if there are strings of labels, squared where
            answers are numbers, else cross-entropy.
        has_strings: Whether whole sequences have strings of labels.

    Raises:
        ValueError: If the loss doesn't fit the answers.
    """

    def __init__(self, policy: RecurrentPolicy, loss: str, *, has_strings: bool) -> None:
        self._policy = policy
        self.answers_are_numbers = isinstance(policy.distribution, Gaussian)
        fitting = "ctc" if has_strings else "squared" if self.answers_are_numbers else "cross-entropy"
        self.name = fitting if loss == "auto" else loss
        if self.name == "squared" and not self.answers_are_numbers:
            raise ValueError(
                f"loss is 'squared', but the env's actions are {policy.action_space}, choices and no numbers: leave "
                "loss out."
            )

    def __call__(
        self, outputs: Tensor, targets: Tensor, weights: Tensor, labels: Tensor | None, valid: Tensor
    ) -> TaughtLoss | LabelLoss:
        """Return the loss of outputs ``(T, S, P)``.

        Args:
            outputs: Of the policy head.
            targets: ``(T, S, P)``, as ``ActionDistribution.targets`` gives them.
            weights: ``(T, S)``, 0 where nothing is asked.
            labels: Strings ``(L, S)``, filled up with -1; None if there are none.
            valid: ``(T, S)``, True from the first to the last step of a sequence.
        """
        if self.name == "ctc":
            strings = self.checked_strings(labels, valid)
            return label_loss(outputs, strings.to(outputs.device), valid.to(outputs.device), blank=self._blank)
        targets, weights = targets.to(outputs), weights.to(outputs)
        if self.name == "squared":
            return squared_error(outputs, targets, weights)
        return cross_entropy(self._policy.distribution, outputs, targets, weights)

    def checked_strings(self, labels: Tensor | None, valid: Tensor) -> Tensor:
        """Return the strings ``(S, L)``, and refuse what no path can be collapsed to."""
        if labels is None:
            raise ValueError(
                "loss is 'ctc', but there are no strings of labels: the env must draw whole sequences with their "
                "labels, as rlstm/SpokenStrings-v0 does, without wrappers, and the policy see its observations alone. "
                "Leave loss out, or change the env."
            )
        strings = labels.T
        check_labels(strings, valid, blank=self._blank, num_answers=self._blank + 1)
        return strings

    @property
    def _blank(self) -> int:
        """The answer that is no label: the last one."""
        if not isinstance(self._policy.action_space, spaces.Discrete):
            raise ValueError(
                f"loss is 'ctc', but the env's actions are {self._policy.action_space}: labels and the blank are "
                "answers of a Discrete space. Leave loss out."
            )
        return int(self._policy.action_space.n) - 1

    def accuracy(self, loss: TaughtLoss | LabelLoss, weights: Tensor) -> dict[str, float]:
        """Return by name how right the answers were: the largest error of numbers, else shares of right ones.

        Sequences that ask nothing don't count.
        """
        if isinstance(loss, LabelLoss):
            return {"label_error_rate": loss.label_error_rate, "right_sequences": loss.right_strings}
        if self.answers_are_numbers:
            return {"largest_error": float(loss.errors.max())}
        asked = (weights > 0).to(loss.errors.device)
        return {
            "right_answers": 1.0 - float(loss.errors[asked].mean()),
            "right_sequences": float((loss.errors == 0).all(0)[asked.any(0)].float().mean()),
        }
