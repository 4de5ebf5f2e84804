"""The minimal LSTM: two gates that see the input alone and share what is kept and what is admitted.

Source: Feng et al. 2024, *Were RNNs all we needed?* (arXiv 2410.01201), section 3.2.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rlstm.cells.min_gru import MinGRUCell


class MinLSTMCell(MinGRUCell):
    """Minimal LSTM.

    With h̄ the state after any reset and [f, i, h̃] = W x + b, f and i through the logistic function::

        f' = f / (f + i),    h = f' h̄ + (1 - f') g(h̃),    g(x) = x + ½ where x ≥ 0, else σ(x)

    f' is computed as σ(log f - log i), which neither overflows nor divides. W starts uniform (Xavier) for each part,
    the biases at 0; with a memory length b_f spreads time scales up to it and b_i = -b_f (Tallec & Ollivier 2018): the
    biases alone then give f' = σ(b_f) exactly. With h̄ = 0 and g the outputs are never negative. The option
    ``candidate`` is that of ``MinGRUCell``.
    """

    num_gates: ClassVar[int] = 2

    def _spread(self, bias: Tensor, keeping: Tensor) -> None:
        bias[: self.hidden_size] = keeping
        bias[self.hidden_size : 2 * self.hidden_size] = -keeping
