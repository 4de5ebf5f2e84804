"""Running exported policies without torch and gymnasium: numpy and onnxruntime are enough.

This folder imports nothing else of the library::

    from rlstm.runtime import OnnxPolicy

    policy = OnnxPolicy("exported")
    policy.reset()
    action = policy.act(observation)
"""

from __future__ import annotations

from rlstm.runtime.policy import OnnxPolicy

__all__ = ["OnnxPolicy"]
