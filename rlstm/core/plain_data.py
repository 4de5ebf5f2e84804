"""Trees of plain data and back: what a file that is read without running anything may hold.

`torch.load(weights_only=True)` takes tensors and plain containers only. Numpy arrays and scalars and very large
integers are written as tagged dicts of such, and come back as what they were, bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.errors import CheckpointError

_TAG = "__rlstm__"  # The key that marks a dict standing for something else: a numpy array, numpy scalar or huge int.


def plain_tensor(tensor: Tensor, where: str) -> Tensor:
    """Copy to the CPU: without the rest of a storage that a view would drag along, and sharing memory with nothing."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise CheckpointError(f"{where} is a sparse, quantized or meta tensor. Save a dense one.")
    return tensor.detach().cpu().clone()


def encode(value: Any, where: str) -> Any:
    """Turn a trainer tree into one that `torch.load(weights_only=True)` accepts; `where` names the place in errors."""
    kind = type(value)
    if kind is int and value.bit_length() > 2000:  # torch refuses the opcode of ints of 256 bytes and more.
        return {_TAG: "int", "hex": hex(value)}
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return plain_tensor(value, where)
    if (kind is np.ndarray or isinstance(value, np.generic)) and value.dtype.kind in "biufc":
        data = torch.from_numpy(np.array(value, order="C").reshape(-1).view(np.uint8))
        tag = "array" if kind is np.ndarray else "scalar"
        return {_TAG: tag, "dtype": value.dtype.str, "shape": list(value.shape), "data": data}
    if kind in (list, tuple):
        return kind(encode(item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind in (dict, OrderedDict) and _TAG not in value and all(type(key) in (str, int) for key in value):
        return {key: encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    what = f"{kind.__name__} of dtype {value.dtype}" if hasattr(value, "dtype") else kind.__name__
    if isinstance(value, dict):
        what += f" with the keys {list(value)[:5]}"
    raise CheckpointError(
        f"{where} is a {what}, which a checkpoint can't hold. Use dict (keys: str or int), list, tuple, str, int, "
        "float, bool, None, tensors and numpy arrays of numbers; give a NamedTuple as tuple(value)."
    )


def decode(value: Any) -> Any:
    """Undo `encode`."""
    if isinstance(value, (list, tuple)):
        return type(value)(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: decode(item) for key, item in value.items()}
    if value[_TAG] == "int":
        return int(value["hex"], 16)
    dtype = np.dtype(value["dtype"])
    if dtype.kind not in "biufc":
        raise ValueError(f"dtype {dtype}")
    array = value["data"].numpy().view(dtype).reshape(value["shape"])
    return array if value[_TAG] == "array" else array[()]
