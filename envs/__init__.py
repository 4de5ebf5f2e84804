"""Memory tasks. Importing this package registers them with Gymnasium; `ENVS` is the table of what there is.

gymnasium.make("rlstm/TMaze-v0", corridor_length=50)
gymnasium.make_vec("rlstm/TMaze-v0", num_envs=64, vectorization_mode="vector_entry_point", episodes_per_trial=2)
"""

from rlstm.envs.base.registration import ENVS, EnvDescription, EnvRow, register_envs
from rlstm.envs.control.masks import register_masks

__all__ = ["ENVS", "EnvDescription", "EnvRow", "register_envs"]

register_envs()
register_masks()
