"""Names of settings: the parts of an experiment, earlier names, and names that other libraries have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = ("env", "run", "policy", "algorithm", "memory", "inputs")
"""The parts of an experiment, in the order of the help."""

PREFIXED = ("memory", "inputs")
"""Those whose settings keep their prefix."""

RENAMED = {"lessons": "teacher_sequences"}
"""Settings by their earlier names, which every layer may still use."""

ELSEWHERE = {
    "lr": "learning_rate",
    "policy_lr": "learning_rate",
    "anneal_learning_rate": "anneal_lr",
    "env_id": "env",
    "env_name": "env",
    "n_envs": "num_envs",
    "num_processes": "num_envs",
    "n_steps": "num_steps",
    "rollout_length": "num_steps",
    "total_timesteps": "total_steps",
    "n_timesteps": "total_steps",
    "num_env_steps": "total_steps",
    "n_epochs": "update_epochs",
    "ppo_epoch": "update_epochs",
    "nminibatches": "num_minibatches",
    "num_mini_batch": "num_minibatches",
    "clip_range": "clip_coef",
    "clip_range_vf": "clip_vloss",
    "entropy_coef": "ent_coef",
    "entropy_coeff": "ent_coef",
    "value_coef": "vf_coef",
    "value_loss_coef": "vf_coef",
    "norm_advantage": "norm_adv",
    "normalize_advantage": "norm_adv",
    "lambda": "gae_lambda",
    "discount": "gamma",
    "with_vtrace": "advantages=vtrace",
    "vtrace_clip_rho_threshold": "vtrace_rho",
    "lstm_hidden_size": "hidden_size",
    "rnn_hidden_size": "hidden_size",
    "n_lstm_layers": "num_layers",
    "lstm_layers": "num_layers",
    "rnn_type": "cell",
    "net_arch": "encoder_sizes",
    "shared_lstm": "critic_memory=shared",
    "enable_critic_lstm": "critic_memory=separate",
    "log_std_init": "initial_log_std",
    "normalize_reward": "scale_rewards",
    "norm_obs": "normalize_observations",
    "eval_freq": "eval_every",
    "n_eval_episodes": "eval_episodes",
    "save_freq": "checkpoint_every",
    "tensorboard_log": "run_dir",
    "log_dir": "run_dir",
    "logdir": "run_dir",
    "cuda": "device=cuda",
    "torch_threads": "num_threads",
}
"""Settings by their names elsewhere, in Stable-Baselines3, CleanRL and others, and a value where that says it."""


def with_present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their present names: tables with dots, no dashes, an id's wrappers as a setting."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name in PREFIXED and isinstance(value, Mapping):
            flat |= {f"{name}.{inner.replace('-', '_')}": item for inner, item in value.items()}
        else:
            flat[RENAMED.get(name, name)] = value
    if isinstance(flat.get("env"), str) and "+" in flat["env"]:
        flat["env"], *innermost = flat["env"].split("+")
        others = flat.get("env_wrappers", ())
        flat["env_wrappers"] = (*innermost, *others) if isinstance(others, (list, tuple)) else others
    return flat
