"""Compile every Triton kernel for a GPU that need not be there, and print what the compiler gave each.

    python -m scripts.benchmarks.compile_triton_kernels [--capability 90] [--shared-memory 232448]

Needs the package triton, which brings NVIDIA's assembler. The launches are those of ``rlstm.kernels``; the last columns
are bytes of shared memory a program, registers a thread and bytes a thread that found no register. Ends with 1 if a
program needs more shared memory than there is: it would not start. Nothing is run, so nothing is said of results or
speed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Case(NamedTuple):
    """One launch: a cell's kernels at one size, in one storage type and precision."""

    module: str
    options: dict[str, Any]
    blocks: int  # Of R; 0 if there is none.
    hidden: int
    width: int
    storage: str = "fp32"
    precision: str | None = None
    num_rows: int = 64

    @property
    def is_wide(self) -> bool:
        """Return whether programs go through the units in parts, by kernels of their own."""
        return "PARTS" in self.constants()[1]

    def constants(self) -> tuple[int, dict[str, Any]]:
        """Return warps and constants as the library would choose them."""
        recurrence = importlib.import_module("rlstm.kernels.triton.recurrence")
        if not self.blocks:
            warps, constants = recurrence._LONE
        else:
            dtype = torch.bfloat16 if self.storage == "bf16" else torch.float32
            weight = torch.empty(self.blocks * self.hidden, self.width, dtype=dtype)
            warps, constants = recurrence._mixing(weight, self.hidden, self.num_rows, self.precision)
        return warps, {"HIDDEN": self.hidden, "KEEP": True, **constants, **self.options}


def cases() -> Iterator[Case]:
    """Yield the launches: each cell at widths on both sides of every choice."""
    mixing = [
        ("lstm", {"PEEPHOLES": False}, 4),
        ("lstm", {"PEEPHOLES": True}, 4),
        ("gru", {}, 3),
        ("slstm", {"EXPONENTIAL": False}, 4),
    ]
    for module, options, blocks in mixing:
        for width in (5, 32, 64, 128, 192, 256):
            for storage, precision in (("fp32", None), ("fp32", "tf32"), ("bf16", None)):
                yield Case(module, options, blocks, width, width, storage, precision)
        yield Case(module, options, blocks, 64, 64, "fp32", None, 4096)
        for width in (128, 192, 256):
            yield Case(module, options, blocks, width, width, "fp32", "tf32", 4096)
            yield Case(module, options, blocks, width, width, "bf16", None, 4096)
        yield Case(module, options, blocks, 256, 256, "fp32", None, 4096)
    yield Case("slstm", {"EXPONENTIAL": True}, 4, 512, 128)
    yield Case("slstm", {"EXPONENTIAL": True}, 4, 512, 256)
    for gates in (2, 3):
        yield Case("min", {"GATES": gates, "POSITIVE": True}, 0, 200, 64)
        yield Case("min", {"GATES": gates, "POSITIVE": False}, 0, 200, 64, "bf16")


def compile_for(kernel: Any, case: Case, capability: int) -> tuple[int, int, int]:
    """Compile a kernel and return shared memory in bytes, registers, and bytes spilt a thread."""
    triton = importlib.import_module("triton")
    compiler = importlib.import_module("triton.compiler")
    backends = importlib.import_module("triton.backends.compiler")
    stages = importlib.import_module("rlstm.kernels.triton.recurrence").NUM_STAGES
    warps, constants = case.constants()
    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    types = {"is_first": "*u8", "num_steps": "i32", "num_rows": "i32"}
    types |= dict.fromkeys(("gates", "weight", "hidden", "deltas"), f"*{case.storage}")
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "*fp32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    pointers = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if "*" in signature[name]}
    source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=places, attrs=pointers)
    target = backends.GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": warps, "num_stages": stages})
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {usage}")
    return compiled.metadata.shared, int(found[1]), int(found[2])


def main() -> int:
    """Compile all and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capability", type=int, default=90, help="compute capability, 90 for an H100")
    parser.add_argument("--shared-memory", type=int, default=227 * 1024, help="bytes that a program may have")
    parser.add_argument("--only", default="", help="only the module of this name: lstm, gru, min or slstm")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("TRITON_INTERPRET is 1: nothing would be compiled.")
    too_large = 0
    print("kernel,options,width,storage,precision,on_chip,parts,rows,warps,pass,shared,registers,spilt")
    for case in cases():
        if arguments.only not in ("", case.module):
            continue
        module = importlib.import_module(f"rlstm.kernels.triton.{case.module}")
        warps, constants = case.constants()
        options = " ".join(f"{name}={value}" for name, value in case.options.items())
        where = (constants.get("PRECISION", ""), constants.get("RESIDENT", ""), constants.get("PARTS", 1))
        where += (constants["BLOCK_ROWS"], warps)
        for name in ("_wide_forward", "_wide_backward") if case.is_wide else ("_forward", "_backward"):
            found = compile_for(getattr(module, name), case, arguments.capability)
            too_large += found[0] > arguments.shared_memory
            print(case.module, options, case.width, case.storage, *where, name[1:], *found, sep=",", flush=True)
    return int(too_large > 0)


if __name__ == "__main__":
    sys.exit(main())
