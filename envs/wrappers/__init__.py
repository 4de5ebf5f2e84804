"""Wrappers that make memory needed, or needless, in any environment; `WRAPPERS` is the table of what there is.

    env = wrap(wrap(gymnasium.make("CartPole-v1"), MaskBox, keep=[0, 2]), Flicker, probability=0.3)

On the command line the same is `--env CartPole-v1+mask=0,2+flicker=0.3`.
"""

from rlstm.envs.wrappers.actions import PreviousActionReward, StickyAction
from rlstm.envs.wrappers.adapters import wrap
from rlstm.envs.wrappers.selections import KeepActions, NearView
from rlstm.envs.wrappers.sensors import Delay, Flicker, Hold, Noise
from rlstm.envs.wrappers.table import WRAPPERS
from rlstm.envs.wrappers.transform import Transform
from rlstm.envs.wrappers.views import MarkovianView, MaskBox, OneHot

__all__ = [
    "WRAPPERS",
    "Delay",
    "Flicker",
    "Hold",
    "KeepActions",
    "MarkovianView",
    "MaskBox",
    "NearView",
    "Noise",
    "OneHot",
    "PreviousActionReward",
    "StickyAction",
    "Transform",
    "wrap",
]
