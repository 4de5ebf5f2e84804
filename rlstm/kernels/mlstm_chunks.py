"""The mLSTM over a sequence with resets, many steps at once.

Within a chunk of L steps every output is a weighted sum over the steps before it, one matrix product for all, and the
state is carried from chunk to chunk. Letters in shapes: N = heads, D = width of a head; i and j are steps of the chunk,
b_j the sum of log f up to j since the last reset, s_j the number of resets up to and including j::

    D_ij = b_i - b_j + ĩ_j   where j ≤ i and s_j = s_i, else -∞
    e_i = exp(b_i + m_prev - m_i)   where s_i = 0, else 0
    S = (Q Kᵀ) exp(D - m_i)
    h_i = (S V + e_i Q C_prev) / max(|Σ S + e_i Q n_prev|, exp(-m_i))
    a_j = exp(log f_(j+1) + ... + log f_L + ĩ_j - m_L)   where s_j = s_L, else 0
    C = e_L C_prev + Σ_j a_j k_j v_jᵀ,    n = e_L n_prev + Σ_j a_j k_j

The stabiliser m_i is the maximum of all exponents it meets, which is that of the step form, so it is computed by the
same recurrence. It cancels in h and is a constant for the gradient. Sums of log f begin anew at a reset: what came
before does not even change their rounding.

Sources: Beck et al. 2024 (arXiv 2405.04517, appendix A.3); resets by masks as in ``rlstm.cells.mlstm``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlstm.kernels.resets import NEVER, check_rows

Memory = tuple[Tensor, Tensor, Tensor]
"""C ``(B, N, D, D)``, n ``(B, N, D)`` and m ``(B, N)``."""


def mlstm_chunks(
    vectors: tuple[Tensor, Tensor, Tensor],
    gates: tuple[Tensor, Tensor],
    memory: Memory,
    is_first: Tensor,
    chunk_length: int,
) -> tuple[Tensor, Memory]:
    """Run an mLSTM with resets.

    Args:
        vectors: q, k, v, ``(T, B, N, D)`` each; k is scaled by 1/√D in here.
        gates: ĩ and f̃, ``(T, B, N)`` each.
        memory: C, n, m before step 0.
        is_first: ``(T, B)`` bool.
        chunk_length: Steps that are computed at once.

    Returns:
        h ``(T, B, N, D)`` and C, n, m after step T - 1.
    """
    check_rows(vectors[0], memory[0], is_first)
    query, key, value = (vector.permute(1, 2, 0, 3) for vector in vectors)  # (B, N, T, D)
    key = key / math.sqrt(key.shape[-1])
    admit = gates[0].permute(1, 2, 0)  # (B, N, T)
    log_forget = torch.nn.functional.logsigmoid(gates[1]).permute(1, 2, 0)
    log_forget = log_forget.masked_fill(is_first.t().unsqueeze(1), 0.0)  # That of a reset step is never used.
    memory = (memory[0], memory[1], memory[2].detach())
    scales = _scales(log_forget, admit, memory[2], is_first)
    if not all(math.isfinite(float(part.detach().sum())) for part in (*vectors, *gates, *memory)):
        chunk_length = 1  # In a product with others what has diverged would reach them, even at weight 0.
    pieces = []
    for begin in range(0, len(is_first), chunk_length):
        steps = slice(begin, begin + chunk_length)
        parts = [part[:, :, steps] for part in (query, key, value, log_forget, admit, scales)]
        piece, memory = _chunk(parts, memory, is_first[steps])
        pieces.append(piece)
    return torch.cat(pieces, dim=2).permute(2, 0, 1, 3), memory


@torch.no_grad()
def _scales(log_forget: Tensor, admit: Tensor, m: Tensor, is_first: Tensor) -> Tensor:
    """Return m after every step, ``(B, N, T)``: m = max(log f + m̄, ĩ)."""
    scales = admit.new_empty(len(is_first), *m.shape)
    kept, floor = log_forget.permute(2, 0, 1), admit.permute(2, 0, 1)
    resets = is_first.any(1).tolist()
    for t, scale in enumerate(scales.unbind()):
        if resets[t]:
            m = m.masked_fill(is_first[t].unsqueeze(1), NEVER)
        torch.maximum(kept[t] + m, floor[t], out=scale)
        m = scale
    return scales.permute(1, 2, 0)


def _chunk(parts: list[Tensor], memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
    """Run one chunk; parts are q, k, v ``(B, N, L, D)`` and log f, ĩ, m ``(B, N, L)``."""
    query, key, value, log_forget, admit, scale = parts
    matrix, normaliser, before = memory
    # What is reset at once must not meet a product, not even one with 0.
    matrix = matrix.masked_fill(is_first[0].view(-1, 1, 1, 1), 0.0)
    normaliser = normaliser.masked_fill(is_first[0].view(-1, 1, 1), 0.0)
    resets = is_first.cumsum(0).t()  # (B, L)
    apart = (resets.unsqueeze(2) != resets.unsqueeze(1)).triu_(1 - len(is_first))
    apart |= torch.ones_like(apart).triu_(1)
    together = (~apart).to(query.dtype)  # (B, i, j)
    decay = log_forget @ together.transpose(1, 2)  # b

    exponents = (decay - scale).unsqueeze(3) + (admit - decay).unsqueeze(2)
    weights = exponents.masked_fill_(apart.unsqueeze(1), -torch.inf).exp_()
    scores = (query @ key.transpose(2, 3)) * weights
    cut = (resets > 0).unsqueeze(1)  # (B, 1, L)
    carried = (decay + (before.unsqueeze(2) - scale)).masked_fill(cut, -torch.inf).exp()
    from_matrix = (query @ matrix).masked_fill(cut.unsqueeze(3), 0.0)
    from_normaliser = (query @ normaliser.unsqueeze(3)).squeeze(3).masked_fill(cut, 0.0)
    numerator = scores @ value + carried.unsqueeze(3) * from_matrix
    denominator = scores.sum(3) + carried * from_normaliser
    outputs = numerator / torch.maximum(denominator.abs(), torch.exp(-scale)).unsqueeze(3)

    after = log_forget @ torch.ones_like(together[0]).tril_(-1)  # Σ_(s > j) log f_s
    end = scale[:, :, -1]
    ended = (resets != resets[:, -1:]).unsqueeze(1)
    admitted = (after + admit - end.unsqueeze(2)).masked_fill(ended, -torch.inf).exp()
    gone = cut[:, :, -1]
    kept = (decay[:, :, -1] + (before - end)).masked_fill(gone, -torch.inf).exp()
    weighted = key * admitted.unsqueeze(3)
    matrix = kept.view(*kept.shape, 1, 1) * matrix.masked_fill(gone.view(-1, 1, 1, 1), 0.0)
    normaliser = kept.unsqueeze(2) * normaliser.masked_fill(gone.unsqueeze(2), 0.0)
    return outputs, (matrix + weighted.transpose(2, 3) @ value, normaliser + weighted.sum(2), end)
