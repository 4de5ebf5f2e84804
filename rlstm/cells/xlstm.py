"""The xLSTM: a residual stack of sLSTM and mLSTM blocks as one cell.

Source: Beck et al. 2024, *xLSTM: Extended Long Short-Term Memory* (arXiv 2405.04517).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rlstm.cells.base import CellStep, RecurrentCell, State
from rlstm.cells.stacked import LayeredCell
from rlstm.cells.xlstm_blocks import MLSTMBlock, SLSTMBlock
from rlstm.core.cell_options import MemoryInit, check_memory_length


class XLSTMCell(LayeredCell):
    """xLSTM: h = norm(block_n(... block_1(W x + b))).

    The blocks are those of ``rlstm.cells.xlstm_blocks``; each has a causal convolution over 4 steps, whose inputs are
    part of the state. W starts uniform (Xavier) and b at 0; each block says how it starts. With a memory length the
    forget biases of every block spread time scales up to it (Tallec & Ollivier 2018), over units in an sLSTM, over
    heads in an mLSTM. H is the width of the residual stream and of the outputs.

    Args:
        num_blocks: Number of blocks.
        slstm_at: Which of them, counted from 0 at the bottom, are sLSTM blocks; ``None`` for every second one, from
            block 1 on.
        num_heads: Heads of every block, a divisor of H; ``None`` for the largest of 4, 2, 1 that fits.
        chunk_length: Steps that an mLSTM block computes at once.

    Raises:
        ValueError: If there is no block, ``slstm_at`` names one that is not there or one twice, the heads don't divide
            H or are 1 wide, or the chunk length is below 1.
    """

    source = "Beck et al. 2024"
    layers_name = "blocks"
    path_name = "blocks: mLSTM in chunks of steps, sLSTM by hand-written backpropagation through time"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        num_blocks: int = 2,
        slstm_at: Sequence[int] | None = None,
        num_heads: int | None = None,
        chunk_length: int = 64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        if num_blocks < 1:
            raise ValueError(f"num_blocks is {num_blocks}; it must be at least 1.")
        chosen = range(1, num_blocks, 2) if slstm_at is None else slstm_at
        if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(num_blocks)):
            raise ValueError(
                f"slstm_at is {list(chosen)}; it must hold different indices of the {num_blocks} blocks, from 0 to "
                f"{num_blocks - 1}."
            )
        self.input_map = nn.Linear(input_size, hidden_size)
        nn.init.xavier_uniform_(self.input_map.weight)
        nn.init.zeros_(self.input_map.bias)
        blocks: list[RecurrentCell] = []
        for index in range(num_blocks):
            place = (index, num_blocks)
            if index in chosen:
                blocks.append(SLSTMBlock(hidden_size, place, memory_length, memory_init, num_heads=num_heads))
            else:
                options: dict[str, Any] = {"num_heads": num_heads, "chunk_length": chunk_length}
                blocks.append(MLSTMBlock(hidden_size, place, memory_length, memory_init, **options))
        self.blocks = nn.ModuleList(blocks)
        self.output_norm = nn.LayerNorm(hidden_size, bias=False)

    def units_of_rows(self, name: str) -> list[int]:
        """Refuse: it has blocks of several layers."""
        raise ValueError("The cell 'xlstm' has blocks of several layers, so no strategy can evolve it unit by unit.")

    def _run(self, runs: Sequence[CellStep], inputs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, state = super()._run(runs, self.input_map(inputs), state)
        return self.output_norm(outputs), state
