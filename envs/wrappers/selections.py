"""Transforms that leave a policy only a part of what there is to do or to see, one class each; see `transform.py`.

Letters in shapes: B lanes, R = the lanes that a call is about, N actions.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, Array, IntArray
from rlstm.envs.base.checks import check_actions, check_integer
from rlstm.envs.wrappers.transform import Observations, Transform


class KeepActions(Transform):
    """Of a choice only the actions `keep` are left, in this order; the policy numbers them 0, 1, ....

    For actions that do nothing, such as four of seven in MiniGrid's Memory. An action mask, in a Dict observation or in
    an info, is cut to the same actions; a mask that forbids all of them is refused as any is that forbids all. Tasks
    whose teacher answers with an action, `info["target"]`, are refused.
    """

    stream = "KeepActions"

    def __init__(self, env: Any, keep: Sequence[int]) -> None:
        super().__init__(env)
        space = self.inner_action_space
        if not isinstance(space, spaces.Discrete):
            raise ValueError(f"actions keeps some of a Discrete space's, but the actions are {space}: leave it out.")
        first, last = int(space.start), int(space.start + space.n) - 1
        for action in keep:
            check_integer("one of actions", action, first)
        if not keep or len(set(keep)) < len(keep) or max(keep) > last:
            raise ValueError(
                f"actions keeps {list(keep)}; it must list one or more different actions from {first} to {last}."
            )
        self.num_actions = int(space.n)  # N, of the environment.
        self.keep: IntArray = np.array(keep, dtype=np.int64)
        self.places: IntArray = self.keep - first  # In a mask.
        self.action_space = spaces.Discrete(len(keep))
        if isinstance(self.inner_space, spaces.Dict) and ACTION_MASK_KEY in self.inner_space.spaces:
            parts = dict(self.inner_space.spaces)
            self.observation_space = spaces.Dict({**parts, ACTION_MASK_KEY: self._cut_space(parts[ACTION_MASK_KEY])})

    def _cut_space(self, space: gym.Space[Any]) -> gym.Space[Any]:
        if isinstance(space, spaces.MultiBinary) and space.shape == (self.num_actions,):
            return spaces.MultiBinary(len(self.keep))
        if isinstance(space, spaces.Box) and space.shape == (self.num_actions,):
            return spaces.Box(space.low[self.places], space.high[self.places], dtype=space.dtype.type)
        raise ValueError(
            f"actions cuts the mask in observations, but {ACTION_MASK_KEY!r} is {space}: make it MultiBinary or a Box "
            f"with one number for each of {self.inner_action_space}."
        )

    def _cut(self, mask: Any) -> Array:
        """Cut masks (..., N)."""
        whole = np.asarray(mask)
        if whole.shape[-1:] != (self.num_actions,):
            raise ValueError(
                f"An {ACTION_MASK_KEY} has the shape {whole.shape}; it must have one number for each of "
                f"{self.inner_action_space}."
            )
        cut: Array = whole[..., self.places]
        return cut

    def act(self, actions: Array) -> Array:
        """Return the environment's own numbers."""
        return self.keep[check_actions(self.action_space, actions, len(self.every_lane))]

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Cut the mask in a dict."""
        if self.observation_space is self.inner_space:
            return observations
        return {**observations, ACTION_MASK_KEY: self._cut(observations[ACTION_MASK_KEY])}

    def tell(self, info: dict[str, Any]) -> dict[str, Any]:
        """Cut the masks in an info, and in those of last steps within it."""
        target = np.asarray(info.get("target"))  # Of None an object.
        if target.dtype.kind in "iu" and target.size == len(self.every_lane):
            raise ValueError(
                "actions numbers the actions anew, but the teacher's answers, info['target'], have the environment's "
                "numbers: leave actions out."
            )
        changed: dict[str, Any] = {}
        if info.get(ACTION_MASK_KEY) is not None:  # None allows everything.
            changed[ACTION_MASK_KEY] = self._cut(info[ACTION_MASK_KEY])
        if isinstance(info.get("final_info"), dict):
            changed["final_info"] = self.tell(info["final_info"])
        return {**info, **changed} if changed else info


class NearView(Transform):
    """Of MiniGrid's picture only the `size` x `size` cells in front of the agent are seen: `view=3` of 7 x 7.

    The picture, (W, W, 3), is the observation or its key "image"; the agent is at its [W // 2, W - 1], and in what is
    left at [size // 2, size - 1]. With `view=3` training asks for `--image-layout hwc`, as any side of 3 x 3 x 3 may be
    the colours'; with `one_hot=11` after it, which reads the symbols as such, it doesn't.

    It is nearly what MiniGrid shows with `agent_view_size=size`. But what is seen in the larger picture may be lit by
    way of cells that the smaller one lacks. In MiniGrid's Memory `view=3` is the same for S7; for the others, on 2 to 6
    of 100 steps of random walks, it shows one or two cells of wall that MiniGrid leaves unseen, where the agent in the
    hallway looks at its side, and never a difference in anything but walls. The `view_size` of our own
    `rlstm/MiniGridMemory...` is exact.
    """

    stream = "NearView"

    def __init__(self, env: Any, size: int) -> None:
        super().__init__(env)
        inner = self.inner_space
        image = inner.spaces.get("image") if isinstance(inner, spaces.Dict) else inner
        shape = image.shape if isinstance(image, spaces.Box) else ()
        if not isinstance(image, spaces.Box) or len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
            raise ValueError(
                "view cuts MiniGrid's picture, a Box (W, W, 3) or the key 'image' of a Dict, but the observations are "
                f"{inner}: leave it out."
            )
        check_integer("the size of view", size, 3)
        width = shape[0]
        if size % 2 == 0 or size >= width:
            raise ValueError(f"The size of view is {size}; it must be odd and less than the picture's width, {width}.")
        start = width // 2 - size // 2
        self.columns, self.rows = slice(start, start + size), slice(width - size, width)
        low, high = (limits[self.columns, self.rows] for limits in (image.low, image.high))
        cut = spaces.Box(low, high, dtype=image.dtype.type)
        self.observation_space = spaces.Dict({**inner.spaces, "image": cut}) if isinstance(inner, spaces.Dict) else cut

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Cut the pictures."""
        if isinstance(observations, dict):
            return {**observations, "image": observations["image"][:, self.columns, self.rows]}
        return observations[:, self.columns, self.rows]
