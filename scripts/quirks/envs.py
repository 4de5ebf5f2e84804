"""Small envs with the quirks of users' own: units, masks, infos, arrays written in place, numbers beyond float32.

Importing the module registers them as ``quirks/NAME-v0``; ``QUIRKS`` says of each what ``rlstm check-env`` tells of it.
All but those in ``BROKEN`` train; what is learnt of some is in ``tests/scripts/test_quirks.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Info = dict[str, Any]


class Quirk(NamedTuple):
    """What an env is like, and what is told of it."""

    env: type[gym.Env[Any, Any]]
    topic: str  # Of a finding of check-env,
    told: str  # and a part of its text.


class _Base(gym.Env[Any, Any]):
    """Episodes of 10 steps; a bit is seen, and naming it pays 1."""

    observation_space: spaces.Space[Any] = spaces.Box(0, 1, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)
    length: ClassVar[int] = 10

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Info]:
        """Pay for the bit that was seen, and show the next one."""
        reward = self._reward(action)
        self.t += 1
        return self._observe(), reward, False, self.t == self.length, self._info()

    def _observe(self) -> Any:
        self.bit = int(self.np_random.integers(2))
        return np.array([self.bit, 1 - self.bit], dtype=np.float32)

    def _reward(self, action: Any) -> Any:
        return float(action == self.bit)

    def _info(self) -> Info:
        return {}


class Heater(_Base):
    """Power in watts, from 200 to 1000: right is 300 where the bit is 0, and 900 where it is 1."""

    action_space = spaces.Box(200, 1000, (1,), np.float32)

    def _reward(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        return float(1 - abs(action[0] - (300 + 600 * self.bit)) / 600)


class Trim(_Base):
    """Small units: right is -0.008 or 0.008 within ±0.01."""

    action_space = spaces.Box(-0.01, 0.01, (1,), np.float64)

    def _reward(self, action: Any) -> Any:
        return float(1 - abs(action[0] - 0.016 * (self.bit - 0.5)) / 0.016)


class Clock(_Base):
    """A float64 clock, in seconds since 1970, and a bit on top of it."""

    observation_space = spaces.Box(0, 2e9, (1,), np.float64)

    def _observe(self) -> Any:
        super()._observe()
        return np.array([1.7e9 + self.bit])


class InPlace(_Base):
    """The same array at each step, and an observation after the last step that the reset overwrites."""

    def _observe(self) -> Any:
        array = self.__dict__.setdefault("array", np.zeros(2, dtype=np.float32))
        array[:] = super()._observe()
        return array


class Talkative(_Base):
    """Infos of many types, which differ from env to env and step to step."""

    def _info(self) -> Info:
        said = [0, 1.5, None, np.float32(0.25), np.array([0.5]), True]
        noise = [None, 1, "text", {"a": 1}, [[1], [2, 3]], np.zeros(self.t + 1), object]
        return {
            "regret": said[int(self.np_random.integers(len(said)))],
            "is_success": np.array([self.t == self.length]),
            "target_position": noise[int(self.np_random.integers(len(noise)))],
            "note": noise[int(self.np_random.integers(len(noise)))],
        }


class RewardArray(_Base):
    """Rewards of shape (1,)."""

    def _reward(self, action: Any) -> Any:
        return np.array([super()._reward(action)])


class Lists(_Base):
    """Lists for observations, in a Dict."""

    observation_space = spaces.Dict({"x": spaces.Box(0, 1, (2,), np.float32), "n": spaces.Discrete(2)})

    def _observe(self) -> Any:
        return {"x": super()._observe().tolist(), "n": self.bit}


class MaskedBits(_Base):
    """A mask for bits, which can't be masked."""

    action_space = spaces.MultiBinary([1, 2])

    def _info(self) -> Info:
        return {"action_mask": np.array([True, False])}

    def _reward(self, action: Any) -> Any:
        return float(action[0, 0] == self.bit)


class Bits(_Base):
    """Actions of two axes of bits."""

    action_space = spaces.MultiBinary([1, 2])

    def _reward(self, action: Any) -> Any:
        return float(action[0, 0] == self.bit)


class MisspeltMask(_Base):
    """A mask under another name."""

    def _info(self) -> Info:
        return {"action_masks": np.array([True, False])}


class MaskInDict(_Base):
    """A mask in a Dict observation: one of four actions is forbidden at each step."""

    observation_space = spaces.Dict({"x": spaces.Box(0, 1, (2,), np.float32), "action_mask": spaces.MultiBinary(4)})
    action_space = spaces.Discrete(4)

    def _observe(self) -> Any:
        mask = np.ones(4, dtype=np.int8)
        self.forbidden = 2 + int(self.np_random.integers(2))
        mask[self.forbidden] = 0
        return {"x": super()._observe(), "action_mask": mask}

    def _reward(self, action: Any) -> Any:
        assert action != self.forbidden
        return super()._reward(action)


class Frames(_Base):
    """Twelve channels, last: three frames in four colours; the bit is in the last one."""

    observation_space = spaces.Box(0, 255, (16, 16, 12), np.uint8)

    def _observe(self) -> Any:
        super()._observe()
        image = np.zeros((16, 16, 12), dtype=np.uint8)
        image[..., 8 + self.bit] = 255
        return image


class OwnState(_Base):
    """Methods of the library's names with another meaning, as simulators have them."""

    def get_state(self) -> Any:
        """Return a simulator's own object."""
        return object()

    def set_state(self, qpos: Any, qvel: Any) -> None:
        """Take positions and velocities."""
        raise AssertionError("never called with one argument")


class Legacy(_Base):
    """Seeds numpy's former generator, which takes 32 bits."""

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode."""
        if seed is not None:
            np.random.RandomState(seed)
        return super().reset(seed=seed, options=options)


class Endless(_Base):
    """Never ends."""

    length = -1


class CannotClose(_Base):
    """Raises when it is closed."""

    def close(self) -> None:
        """Fail."""
        raise RuntimeError("the port is busy")


class OutOfRange(_Base):
    """A Discrete observation beyond its space."""

    observation_space = spaces.Discrete(2)

    def _observe(self) -> Any:
        super()._observe()
        return 2 * self.bit


QUIRKS: dict[str, Quirk] = {
    "Heater": Quirk(Heater, "spaces", "Box(200.0, 1000.0"),
    "Trim": Quirk(Trim, "spaces", "Box(-0.01, 0.01"),
    "Clock": Quirk(Clock, "spaces", "float64"),
    "InPlace": Quirk(InPlace, "episodes", "10.0 steps on average"),
    "Talkative": Quirk(Talkative, "infos", "read: is_success, regret"),
    "RewardArray": Quirk(RewardArray, "speed", "steps/s"),
    "Lists": Quirk(Lists, "autoreset", "episodes ended"),
    "MaskedBits": Quirk(MaskedBits, "masks", "can't be masked"),
    "Bits": Quirk(Bits, "masks", "none seen"),
    "MisspeltMask": Quirk(MisspeltMask, "masks", "info['action_masks'] is not read"),
    "MaskInDict": Quirk(MaskInDict, "masks", "seen, allows 3.0 of 4"),
    "Frames": Quirk(Frames, "spaces", "16 x 16, 12 channels on the last axis"),
    "OwnState": Quirk(OwnState, "resume", "get_state and set_state of OwnState are not those"),
    "Legacy": Quirk(Legacy, "determinism", "come out the same"),
    "Endless": Quirk(Endless, "episodes", "none ended"),
    "CannotClose": Quirk(CannotClose, "closing", "the port is busy"),
    "OutOfRange": Quirk(OutOfRange, "play", "observation is 2, outside Discrete(2)"),
}
BROKEN = ("MaskedBits", "OutOfRange")


def register() -> None:
    """Register what is not registered."""
    for name, quirk in QUIRKS.items():
        if f"quirks/{name}-v0" not in gym.registry:
            gym.register(f"quirks/{name}-v0", f"{__name__}:{quirk.env.__name__}")


register()
