"""The settings of an environment. Free of gymnasium, so that help doesn't wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rlstm.core.ranges import AtLeast, check_ranges
from rlstm.core.searched import Among

Vectorization = Literal["auto", "native", "sync", "async"]


@dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    env: str = ""
    """Env id: 'rlstm/TMaze-v0', 'module:ns/Name-v0' to import a module first, with wrappers 'Name-v0+flicker=0.3'."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env as KEY=VALUE; values are read as JSON."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, so that they can register their envs."""

    env_wrappers: tuple[str, ...] = ()
    """Wrappers, innermost first: mask=0,2 one_hot=11 flicker=0.5 noise=0.1 delay=2 hold sticky=0.25 previous
    markovian actions=0,1,2 view=3."""

    log_info: tuple[str, ...] = ()
    """Keys of info whose numbers are logged, as means over the steps of an episode: energy error."""

    num_envs: Annotated[int, AtLeast(1), Among(8, 16, 32, 64)] = 16
    """Environments stepped side by side."""

    vectorization: Vectorization = "auto"
    """How they are stepped: the env's own batched form, in this process, or in workers."""

    def __post_init__(self) -> None:
        """Refuse an impossible number of envs; wrappers in the id become the innermost ones."""
        env_id, wrappers = split_wrappers(self.env)
        object.__setattr__(self, "env", env_id)
        object.__setattr__(self, "env_wrappers", (*wrappers, *self.env_wrappers))
        check_ranges(self)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules to import first, that in the id too."""
        in_id = [self.env.split(":", 1)[0]] if ":" in self.env else []
        return tuple(dict.fromkeys((*self.env_import, *in_id)))


def split_wrappers(env: str) -> tuple[str, tuple[str, ...]]:
    """Split ``CartPole-v1+mask=0,2+flicker`` into the id and its wrappers; no id has a ``+`` of its own."""
    env_id, *wrappers = env.split("+")
    return env_id, tuple(wrappers)
