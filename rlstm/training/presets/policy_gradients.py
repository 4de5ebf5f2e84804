"""Settings for PPO and REINFORCE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlstm.training.presets.preset import Preset, preset, task

# The presets were found with these, which are not all defaults any more.
_PPO = {"learning_rate": 5e-4, "anneal_lr": False, "value_bias": "zero", "eval_actions": "likeliest"}
_REINFORCE = {
    "learning_rate": 2e-3,
    "anneal_lr": False,
    "ent_coef": 0.01,
    "final_ent_coef": None,
    "eval_actions": "likeliest",
}


def _ppo(description: str, *layers: Mapping[str, Any], **settings: Any) -> Preset:
    return preset("ppo", description, _PPO, *layers, **settings)


def _reinforce(description: str, *layers: Mapping[str, Any], **settings: Any) -> Preset:
    return preset("reinforce", description, _REINFORCE, *layers, **settings)


_FAST = {"learning_rate": 1e-3, "anneal_lr": True}
_CORRIDOR = {"num_envs": 64, "hidden_size": 64, "encoder_sizes": (32,), "anneal_lr": True}
# Long corridors: gradients over the whole way, a discount that leaves the start worth something, and an entropy bonus
# that fades, so that first turns are tried and later none is missed.
_LONG_CORRIDOR = {**_CORRIDOR, "target_kl": 0.02, "final_ent_coef": 0.001}
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
# POPGym's protocol: the previous action and the start of an episode are seen, and actions are sampled.
_POPGYM = {
    **_FAST,
    "num_envs": 64,
    "ent_coef": 0.02,
    "final_ent_coef": 0.0,
    "inputs.previous_action": True,
    "inputs.episode_start": True,
    "eval_actions": "sampled",
}
# The object lies behind the agent, and it tells nothing by itself: it has to be compared with those at the junction. So
# a bonus that fades makes it look round, and short returns of the bonus keep it from wandering.
_MINIGRID = {
    **_FAST,
    "env_wrappers": ("one_hot=7",),  # Symbols up to 6 are all that these mazes show.
    "num_envs": 64,
    "num_steps": 64,
    "hidden_size": 64,
    "head_sizes": (64,),
    "memory_length": 60,
    "memory_init": "log_spaced",
    "ent_coef": 0.05,  # Less, and it is sure of a wrong half of the comparison before it meets the other.
    "final_ent_coef": 0.0,
    "exploration": "noveld",
    "bonus_coef": 2.0,
    "final_bonus_coef": 0.0,
    "bonus_gamma": 0.9,
    "bonus_learning_rate": 1e-5,
    "eval_actions": "sampled",
}

POLICY_GRADIENTS: dict[str, Preset] = {
    "tmaze": _ppo(
        "Bakker's T-maze, corridor 20: remember a sign over 20 steps.",
        _CORRIDOR,
        task("rlstm/TMaze-v0", 300_000, corridor_length=20),
        num_steps=64,
        learning_rate=1e-3,
        gae_lambda=0.98,
        ent_coef=0.03,
        memory_length=40,
    ),
    "tmaze-long": _ppo(
        "Bakker's T-maze, corridor 250.",
        _LONG_CORRIDOR,
        task("rlstm/TMaze-v0", 8_000_000, corridor_length=250),
        num_steps=512,
        learning_rate=7e-4,
        gae_lambda=0.98,
        ent_coef=0.02,
        memory_length=500,
    ),
    **{
        f"passive-tmaze{suffix}": _ppo(
            f"Ni's passive T-maze, corridor {length}, by shorter ones: one wrong step and the episode is lost.",
            _LONG_CORRIDOR,
            task("rlstm/PassiveTMaze-v0", total_steps, corridor_length=length),
            num_envs=16,  # Of 64, an update takes four times as many steps and learns no more.
            num_steps=num_steps,
            learning_rate=1e-3,
            gamma=0.9995,
            gae_lambda=0.99,
            ent_coef=0.03,
            memory_length=memory_length,
            memory_init="log_spaced",
            curriculum=f"passive-tmaze-{length}",
        )
        for suffix, length, num_steps, memory_length, total_steps in (
            ("", 100, 101, 200, 500_000),
            ("-250", 250, 251, 1000, 1_000_000),
            ("-500", 500, 501, 1000, 1_500_000),
            ("-1000", 1000, 501, 1000, 2_000_000),
        )
    },
    "tmaze-reinforce": _reinforce(
        "Bakker's T-maze, corridor 20, by recurrent policy gradients.",
        _CORRIDOR,
        task("rlstm/TMaze-v0", 1_000_000, corridor_length=20),
        num_episodes=64,
        learning_rate=3e-3,
        gamma=0.98,
        ent_coef=0.03,
        final_ent_coef=0.003,
        memory_length=40,
    ),
    "pole-reinforce": _reinforce(
        "Balance one pole without seeing velocities, by recurrent policy gradients.",
        task("rlstm/SinglePoleNoVel-v0", 1_000_000),
        num_envs=16,
        num_episodes=16,
        hidden_size=32,
        encoder_sizes=(32,),
        learning_rate=3e-3,
        anneal_lr=True,
        ent_coef=0.0,
    ),
    "cartpole-no-vel": _ppo(
        "Balance a pole without seeing velocities.",
        _FAST,
        task("rlstm/CartPoleNoVel-v0", 100_000),
        num_envs=16,
        gamma=0.98,
        gae_lambda=0.9,
    ),
    "pendulum-no-vel": _ppo(
        "Swing a pendulum up without seeing its velocity.",
        _FAST,
        task("rlstm/PendulumNoVel-v0", 100_000),
        num_envs=8,
        num_steps=100,
        num_minibatches=1,
        update_epochs=15,
        hidden_size=64,
        encoder_sizes=(64,),
        critic_memory="separate",
        gamma=0.9,
        ent_coef=0.0,
        scale_actions=False,
    ),
    "mountain-car-no-vel": _ppo(
        "Drive up a mountain without seeing the velocity; a wide first deviation finds the top.",
        _FAST,
        task("rlstm/MountainCarContinuousNoVel-v0", 300_000),
        num_envs=16,
        num_steps=256,
        hidden_size=64,
        gamma=0.999,
        gae_lambda=0.98,
        ent_coef=0.0,
        initial_log_std=1.5,
    ),
    "bandit": _ppo(
        "Learn to learn which of 5 arms pays best within 10 pulls (RL²).",
        _TRIALS,
        task("rlstm/BernoulliBandit-v0", 4_000_000, num_arms=5),
        {"memory.episodes_per_trial": 10},
        num_envs=1024,
        num_steps=10,
        eval_episodes=10_000,
    ),
    "bandit-50-arms": _ppo(
        "The same with 50 arms within 10 pulls, by batches of 2,048 trials.",
        _TRIALS,
        task("rlstm/BernoulliBandit-v0", 12_000_000, num_arms=50),
        {"memory.episodes_per_trial": 10},
        num_envs=2048,
        num_steps=10,
        num_minibatches=8,
        update_epochs=4,
        learning_rate=1e-3,
        gae_lambda=0.3,
        ent_coef=0.01,
        eval_episodes=10_000,
    ),
    "bandit-100": _ppo(
        "The same within 100 pulls.",
        _TRIALS,
        task("rlstm/BernoulliBandit-v0", 24_000_000, num_arms=5),
        {"memory.episodes_per_trial": 100},
        num_envs=256,
        num_steps=100,
        gamma=0.998,
        eval_episodes=20_000,
    ),
    "tabular-mdp": _ppo(
        "Learn to learn a random MDP within 10 episodes of 10 steps (RL²).",
        _TRIALS,
        task("rlstm/TabularMDP-v0", 4_000_000),
        {"memory.episodes_per_trial": 10},
        num_envs=256,
        num_steps=100,
        num_minibatches=8,
        update_epochs=4,
        cell="gru",
        memory_length=100,
        gae_lambda=0.5,
        ent_coef=0.03,
        eval_episodes=10_000,
    ),
    "popgym": _ppo(
        "One of POPGym's tasks for 3 million steps; --env names another. Sees the previous action, as there.",
        _POPGYM,
        task("rlstm/PositionOnlyCartPoleEasy-v0", 3_000_000),
    ),
    "popgym-recall": _ppo(
        "One of POPGym's tasks where actions change nothing but their own reward: γ = 0; --env names another.",
        _POPGYM,
        task("rlstm/RepeatPreviousEasy-v0", 3_000_000),
        gamma=0.0,
    ),
    "minigrid-memory": _ppo(
        "MiniGrid, 7 x 7 cells: look at the object in the first room and walk to its like. All actions, whole view.",
        _MINIGRID,
        task("rlstm/MiniGridMemoryS7-v0", 3_000_000),
    ),
    **{
        f"minigrid-memory-{size.lower()}": _ppo(
            f"The same, {cells}, by smaller mazes.",
            _MINIGRID,
            task(f"rlstm/MiniGridMemory{size}-v0", total_steps),
            curriculum=f"minigrid-memory-{size.lower()}",
        )
        for size, cells, total_steps in (
            ("S9", "9 x 9 cells", 2_500_000),
            ("S13", "13 x 13 cells", 5_000_000),
        )
    },
    "memory-length": _ppo(
        "bsuite's memory chain of length 10: 10,000 episodes.",
        task("rlstm/MemoryLength-v0", 110_000, memory_length=10),
        num_envs=16,
        num_steps=11,
        hidden_size=64,
        encoder_sizes=(32,),
        learning_rate=1e-3,
        memory_length=20,
    ),
}
