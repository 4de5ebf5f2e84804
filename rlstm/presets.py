"""Presets: settings found for a task, by name. A flag or a config file changes any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlstm.errors import unknown_name

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True)
class Preset:
    """An agent, an env and the settings with which the one learns the other."""

    agent: str
    settings: Mapping[str, Any]  # By the names of the flags, see ``rlstm.config``.
    description: str


# Long corridors: gradients over the whole way, a discount that leaves the start worth something, and an entropy bonus
# that fades, so that first turns are tried and later none is missed.
_LONG_CORRIDOR = {
    "num_envs": 64,
    "hidden_size": 64,
    "encoder_sizes": (32,),
    "anneal_lr": True,
    "target_kl": 0.02,
    "final_ent_coef": 0.001,
}
# Trials: whole ones in each rollout, and an entropy bonus that fades with the need to explore.
_TRIALS = {
    "memory.lifetime": "trial",
    "encoder_sizes": (64,),
    "learning_rate": 1.5e-3,
    "anneal_lr": True,
    "update_epochs": 3,
    "ent_coef": 0.04,
    "final_ent_coef": 0.0,
    "eval_every": 0,
}
# Sums of sines: weights so small that memories are nearly linear, which float64 bears; no biases, as sines have none.
_SINES = {
    "env": "rlstm/Sines-v0",
    "dtype": "float64",
    "total_steps": 60_000,
    "num_envs": 2,
    "population": 20,
    "input_gain": 1e-4,
    "biases": False,
    "washout": 100,
    "lessons": 6,
}

PRESETS: dict[str, Preset] = {
    "tmaze": Preset(
        "ppo",
        {
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 20},
            "total_steps": 300_000,
            "num_envs": 64,
            "hidden_size": 64,
            "encoder_sizes": (32,),
            "num_steps": 64,
            "learning_rate": 1e-3,
            "anneal_lr": True,
            "gae_lambda": 0.98,
            "ent_coef": 0.03,
            "memory_length": 40,
        },
        "Bakker's T-maze, corridor 20: remember a sign over 20 steps.",
    ),
    "tmaze-long": Preset(
        "ppo",
        {
            **_LONG_CORRIDOR,
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 250},
            "total_steps": 8_000_000,
            "num_steps": 512,
            "learning_rate": 7e-4,
            "gae_lambda": 0.98,
            "ent_coef": 0.02,
            "memory_length": 500,
        },
        "Bakker's T-maze, corridor 250.",
    ),
    "passive-tmaze": Preset(
        "ppo",
        {
            **_LONG_CORRIDOR,
            "env": "rlstm/PassiveTMaze-v0",
            "env_kwargs": {"corridor_length": 100},
            "total_steps": 3_000_000,
            "num_steps": 101,
            "learning_rate": 1e-3,
            "gamma": 0.9995,
            "gae_lambda": 0.99,
            "ent_coef": 0.03,
            "memory_length": 200,
        },
        "Ni's passive T-maze, corridor 100: one wrong step and the episode is lost.",
    ),
    "tmaze-reinforce": Preset(
        "reinforce",
        {
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 20},
            "total_steps": 1_000_000,
            "num_envs": 64,
            "num_episodes": 64,
            "hidden_size": 64,
            "encoder_sizes": (32,),
            "learning_rate": 3e-3,
            "anneal_lr": True,
            "gamma": 0.98,
            "ent_coef": 0.03,
            "final_ent_coef": 0.003,
            "memory_length": 40,
        },
        "Bakker's T-maze, corridor 20, by recurrent policy gradients.",
    ),
    "tmaze-evolino": Preset(
        "evolino",
        {
            "env": "rlstm/TMaze-v0",
            "env_kwargs": {"corridor_length": 20},
            "total_steps": 2_000_000,
            "eval_every": 250_000,
            "num_envs": 4,
            "hidden_size": 4,
            "population": 64,
            "sigma": 5.0,  # Gates that are open or shut from the start: around 0 the memory fades within some steps.
            "confirm_episodes": 32,
        },
        "Bakker's T-maze, corridor 20, by neuroevolution: an LSTM of 4 cells and its readout.",
    ),
    "pole-reinforce": Preset(
        "reinforce",
        {
            "env": "rlstm/SinglePoleNoVel-v0",
            "total_steps": 1_000_000,
            "num_envs": 16,
            "num_episodes": 16,
            "hidden_size": 32,
            "encoder_sizes": (32,),
            "learning_rate": 3e-3,
            "anneal_lr": True,
            "ent_coef": 0.0,
        },
        "Balance one pole without seeing velocities, by recurrent policy gradients.",
    ),
    "double-pole": Preset(
        "evolino",
        {
            "env": "rlstm/DoublePoleNoVel-v0",
            "env_kwargs": {"fitness": "damping"},
            "total_steps": 1_000_000,
            "num_envs": 1,
            "cell": "elman",
            "hidden_size": 1,
            "squash_actions": True,
            "strategy": "cma-es",
            "population": 8,
            "sigma": 1.0,
            "least_sigma": 0.3,
            "patience": 30,
            "biases": False,
            "confirm_episodes": 1,
            "eval_episodes": 1,
        },
        "Balance two poles without seeing velocities, and bring them to rest, by evolution of five weights.",
    ),
    "cartpole-no-vel": Preset(
        "ppo",
        {
            "env": "rlstm/CartPoleNoVel-v0",
            "total_steps": 100_000,
            "num_envs": 16,
            "learning_rate": 1e-3,
            "anneal_lr": True,
        },
        "Balance a pole without seeing velocities.",
    ),
    "pendulum-no-vel": Preset(
        "ppo",
        {
            "env": "rlstm/PendulumNoVel-v0",
            "total_steps": 100_000,
            "num_envs": 8,
            "num_steps": 100,
            "num_minibatches": 1,
            "update_epochs": 15,
            "hidden_size": 64,
            "encoder_sizes": (64,),
            "critic_memory": "separate",
            "learning_rate": 1e-3,
            "anneal_lr": True,
            "gamma": 0.9,
            "ent_coef": 0.0,
        },
        "Swing a pendulum up without seeing its velocity.",
    ),
    "mountain-car-no-vel": Preset(
        "ppo",
        {
            "env": "rlstm/MountainCarContinuousNoVel-v0",
            "total_steps": 300_000,
            "num_envs": 16,
            "num_steps": 256,
            "hidden_size": 64,
            "learning_rate": 1e-3,
            "anneal_lr": True,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.0,
            "initial_log_std": 1.5,
        },
        "Drive up a mountain without seeing the velocity; a wide first deviation finds the top.",
    ),
    "bandit": Preset(
        "ppo",
        {
            **_TRIALS,
            "env": "rlstm/BernoulliBandit-v0",
            "env_kwargs": {"num_arms": 5},
            "memory.episodes_per_trial": 10,
            "total_steps": 4_000_000,
            "num_envs": 1024,
            "num_steps": 10,
            "eval_episodes": 10_000,
        },
        "Learn to learn which of 5 arms pays best within 10 pulls (RL²).",
    ),
    "bandit-100": Preset(
        "ppo",
        {
            **_TRIALS,
            "env": "rlstm/BernoulliBandit-v0",
            "env_kwargs": {"num_arms": 5},
            "memory.episodes_per_trial": 100,
            "total_steps": 24_000_000,
            "num_envs": 256,
            "num_steps": 100,
            "gamma": 0.998,
            "eval_episodes": 20_000,
        },
        "The same within 100 pulls.",
    ),
    "tabular-mdp": Preset(
        "ppo",
        {
            **_TRIALS,
            "env": "rlstm/TabularMDP-v0",
            "memory.episodes_per_trial": 10,
            "total_steps": 4_000_000,
            "num_envs": 256,
            "num_steps": 100,
            "num_minibatches": 8,
            "update_epochs": 4,
            "cell": "gru",
            "memory_length": 100,
            "gae_lambda": 0.5,
            "ent_coef": 0.03,
            "eval_episodes": 10_000,
        },
        "Learn to learn a random MDP within 10 episodes of 10 steps (RL²).",
    ),
    "popgym": Preset(
        "ppo",
        {
            "env": "rlstm/RepeatPreviousEasy-v0",
            "total_steps": 3_000_000,
            "num_envs": 64,
            "learning_rate": 1e-3,
            "anneal_lr": True,
            "ent_coef": 0.02,
            "final_ent_coef": 0.0,
        },
        "One of POPGym's tasks for 3 million steps; --env names another.",
    ),
    "minigrid-memory": Preset(
        "ppo",
        {
            "env": "MiniGrid-MemoryS7-v0",
            "env_import": ("minigrid",),
            "env_wrappers": ("one_hot=11",),
            "total_steps": 2_050_000,
            "num_envs": 16,
            "num_steps": 256,
            "num_minibatches": 8,
            "encoder_sizes": (128,),
            "learning_rate": 3e-4,
            "anneal_lr": True,
            "gamma": 0.995,
            "ent_coef": 0.003,
        },
        "MiniGrid: remember the object in the first room; --env names another size. Needs rlstm[envs].",
    ),
    "memory-length": Preset(
        "ppo",
        {
            "env": "rlstm/MemoryLength-v0",
            "env_kwargs": {"memory_length": 10},
            "total_steps": 110_000,
            "num_envs": 16,
            "num_steps": 11,
            "hidden_size": 64,
            "encoder_sizes": (32,),
            "learning_rate": 1e-3,
            "memory_length": 20,
        },
        "bsuite's memory chain of length 10: 10,000 episodes.",
    ),
    "sines": Preset(
        "evolino",
        {
            **_SINES,
            "env_kwargs": {"feedback": True, "num_sines": 2},
            "hidden_size": 10,
            "sigma": 0.3,
        },
        "Go on with a sum of 2 sines alone, by Evolino: seconds.",
    ),
    "sines-5": Preset(
        "evolino",
        {
            **_SINES,
            "env_kwargs": {"feedback": True, "num_sines": 5},
            "hidden_size": 40,
            "sigma": 0.25,
        },
        "Go on with a sum of 5 sines alone, by Evolino.",
    ),
    "mackey-glass": Preset(
        "evolino",
        {
            "env": "rlstm/MackeyGlass-v0",
            "env_kwargs": {"feedback": True, "free_run": 84},
            "dtype": "float64",
            "total_steps": 20_000,
            "num_envs": 2,
            "population": 10,
            "hidden_size": 200,
            "sigma": 0.11,
            "input_gain": 3.0,
            "washout": 50,
            "lessons": 30,
        },
        "Go on with a chaotic signal for 84 steps, by Evolino.",
    ),
}


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UnknownNameError: If there is none of this name, with the nearest one.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
