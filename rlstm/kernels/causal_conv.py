"""A causal convolution over time for each feature alone, which does not see across a reset.

Letters in shapes: F = features, K = taps. The window holds the K - 1 inputs before step 0, zeros where there were none.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_conv_step(inputs: Tensor, window: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Advance one step: y = b + Σ_k w_k x_(t - K + 1 + k).

    Args:
        inputs: ``(B, F)``.
        window: The K - 1 inputs before, the oldest first, ``(B, K - 1, F)``.
        weight: ``(F, K)``, the last for the newest input.
        bias: ``(F,)``.

    Returns:
        Outputs ``(B, F)`` and the next window.
    """
    seen = torch.cat([window, inputs.unsqueeze(1)], dim=1)
    return bias + (seen * weight.t()).sum(1), seen[:, 1:]


def causal_conv(
    inputs: Tensor, window: Tensor, is_first: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Run T steps; a tap that would reach past a reset reads 0.

    Inputs are ``(T, B, F)``, ``is_first`` is ``(T, B)`` bool, and the rest as for one step.

    Returns:
        Outputs ``(T, B, F)`` and the window after step T - 1.
    """
    num_steps, taps = len(inputs), weight.shape[1]
    seen = torch.cat([window.transpose(0, 1), inputs])  # (K - 1 + T, B, F), step t at K - 1 + t
    resets = torch.nn.functional.pad(is_first.cumsum(0), (0, 0, taps - 1, 0))  # 0 before step 0
    now = resets[taps - 1 :]
    outputs = torch.addcmul(bias, inputs, weight[:, -1])
    for tap in range(taps - 1):
        steps = slice(tap, tap + num_steps)
        past = seen[steps].masked_fill((resets[steps] != now).unsqueeze(2), 0.0)
        outputs = torch.addcmul(outputs, past, weight[:, tap])
    cleared = (resets[num_steps:] != now[-1]).unsqueeze(2)  # (K - 1, B, 1)
    return outputs, seen[num_steps:].masked_fill(cleared, 0.0).transpose(0, 1)
