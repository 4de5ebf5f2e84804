"""List what ``scripts.experiments.reproduce`` can repeat: a preset with some flags, its goal, what others reached.

Adding one is an entry in ``EXPERIMENTS``. Published figures name their source; if a source states another budget or
another measure than ours, the group's heading says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scripts.experiments.popgym_rows import LEVELS, figure
from scripts.experiments.popgym_rows import ROWS as POPGYM_ROWS

__all__ = ["EXPERIMENTS", "GROUPS", "MEASURES", "SECTIONS", "Experiment", "Group", "Measure"]


@dataclass(frozen=True)
class Measure:
    """What is measured of a run."""

    column: str
    """Its column in the run's progress."""


MEASURES = {
    "success": Measure("eval/success_rate"),
    "return": Measure("eval/mean_reward"),
    "training return": Measure("rollout/ep_rew_mean_of_all"),
}


@dataclass(frozen=True)
class Experiment:
    """A preset with some flags, and what it has to reach."""

    group: str
    title: str  # Experiments of one title share a line of the table.
    preset: str
    flags: tuple[str, ...]
    measure: str  # A key of MEASURES.
    criterion: float
    published: str = ""  # With its source.
    agent: str = "ppo"
    stages: tuple[tuple[str, ...], ...] = ()
    """Flags of the runs before the last one; each begins with the weights of the one before it. Steps are of all."""

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """Return the flags of every run, in their order."""
        return (*self.stages, self.flags)


@dataclass(frozen=True)
class Group:
    """Experiments whose results stand in one table of RESULTS.md."""

    section: str  # A key of SECTIONS.
    text: str  # What the experiments are, and what the published figures are.


SECTIONS = {
    "remember": "Does it remember?",
    "hidden": "Does it act on what it can't see?",
    "popgym": "Does it hold up across a benchmark?",
}
"""The headings of RESULTS.md under which learning results stand."""

GROUPS = {
    "T-maze": Group(
        "remember",
        "A sign at the start tells which way to turn after a corridor of so many steps (Bakker 2001). Greedy.",
    ),
    "T-maze by evolution": Group(
        "remember",
        "The same, by separable natural evolution strategies; a generation's steps are those of all its genomes. "
        "Control: the readout alone evolves, by CMA-ES, over a random LSTM that stays as it begins. Greedy.",
    ),
    "Passive T-maze": Group(
        "remember", "Every episode is just long enough: one wrong step and it is lost (Ni et al. 2023)."
    ),
    "Hidden velocities": Group(
        "hidden", "Classic control without velocities. Published: RecurrentPPO, rl-baselines3-zoo."
    ),
    "POPGym": Group(
        "popgym",
        "3 million steps, sampled as there, the last weights. γ is 0 in the first five tasks, where actions change "
        "nothing but their own reward, 0.8 for bandits, 0.99 elsewhere. Published: another PPO with a GRU, best epoch "
        "of 3 million steps (bryjudy/fly-critic); in brackets the best of POPGym's 13 models, best epoch of 15 million "
        "steps (Morad et al. 2023, as quoted there).",
    ),
    "MiniGrid": Group(
        "remember",
        "Sampled, 7 actions, the whole view of 7 x 7 cells, in mazes that equal MiniGrid's step by step; with a bonus "
        "for what is new (NovelD). Rows without one: MiniGrid's own mazes, likeliest actions. Published: S9, 10 seeds "
        "of 2.05 million steps with 3 actions, a view of 3 x 3 cells and 99 mazes "
        "(MarcoMeter/recurrent-ppo-truncated-bptt); S13, an LSTM with NovelD, few seeds (memrl).",
    ),
    "bsuite": Group(
        "remember",
        "Memory chains of 23 lengths, 10,000 episodes each. The mean return of them all, learning included, must reach "
        "0.25: bsuite's criterion, that errors are fewer than 3/4 of those of chance.",
    ),
}

MEMORY_LENGTHS = (*range(1, 11), 12, 14, 17, 20, 25, 30, *range(40, 101, 10))  # bsuite's sweep.


_LONG_MEMORY = ("--memory-length", "1000")
_SHORT_CORRIDOR = (
    "--env-kwargs",
    "corridor_length=100",
    *_LONG_MEMORY,
    "--num-steps",
    "256",
    "--total-steps",
    "2000000",
)


def _corridor(length: int, num_steps: int, total_steps: int, *flags: str) -> tuple[str, ...]:
    """Return the flags for another corridor: memory for twice its length, and rollouts that hold a whole way."""
    sizes = ("--memory-length", str(2 * length), "--num-steps", str(num_steps), "--total-steps", str(total_steps))
    return ("--env-kwargs", f"corridor_length={length}", *sizes, *flags)


def _lengthened(length: int, num_steps: int, gamma: float) -> tuple[str, ...]:
    """Return the flags for a corridor that is entered with what was learnt in a shorter one."""
    rates = ("--gamma", str(gamma), "--learning-rate", "3e-4", "--ent-coef", "0.005")
    return ("--env-kwargs", f"corridor_length={length}", *_LONG_MEMORY, "--num-steps", str(num_steps), *rates)


def _evolved(length: int, total_steps: int) -> dict[str, Experiment]:
    """Return the experiment of a corridor by evolution and its control."""
    flags = ("--env-kwargs", f"corridor_length={length}", "--total-steps", str(total_steps))
    name = "tmaze-evolino" if length == 20 else f"tmaze-evolino-{length}"
    group, preset = "T-maze by evolution", "tmaze-evolino"
    random = (*flags, "--readout", "cma", "--sigma", "1")
    return {
        name: Experiment(group, f"Corridor {length}", preset, flags, "success", 0.99, agent="evolino"),
        f"{name}-control": Experiment(
            group, f"Corridor {length}, random memory", preset, random, "success", 0.99, agent="evolino"
        ),
    }


def _memory_chain(length: int) -> tuple[str, ...]:
    sizes = ("--memory-length", str(max(3, 2 * length)), "--num-steps", str(length + 1))
    return ("--env-kwargs", f"memory_length={length}", *sizes, "--total-steps", str(10_000 * (length + 1)))


def _passive_at_once(num_steps: int, total_steps: int, memory_length: int) -> tuple[str, ...]:
    """Return the flags for a passive corridor without shorter ones before it."""
    sizes = ("--num-steps", str(num_steps), "--total-steps", str(total_steps), "--memory-length", str(memory_length))
    return ("--curriculum", "none", "--memory-init", "chrono", "--num-envs", "64", *sizes)


def _minigrid_plain(size: str) -> tuple[str, ...]:
    """Return the flags for a maze of MiniGrid's own without a bonus, as it was run at first."""
    of_env = ("--env", f"MiniGrid-Memory{size}-v0", "--env-import", "minigrid", "--env-wrappers", "one_hot=11")
    of_memory = ("--hidden-size", "128", "--encoder-sizes", "128", "--head-sizes", "--memory-length", "none")
    batches = ("--num-envs", "16", "--num-steps", "256", "--num-minibatches", "8", "--total-steps", "2050000")
    rates = ("--learning-rate", "3e-4", "--gamma", "0.995", "--ent-coef", "0.003", "--final-ent-coef", "none")
    others = ("--exploration", "none", "--memory-init", "chrono", "--eval-actions", "likeliest")
    return (*of_env, *of_memory, *batches, *rates, *others)


def _popgym() -> dict[str, Experiment]:
    """Return the experiments of POPGym, by names such as popgym-repeat-previous-hard."""
    experiments = {}
    for row in POPGYM_ROWS:
        kebab = re.sub("(?<=[a-z])(?=[A-Z])", "-", row.task).lower()
        for level, num_steps, gru, best in zip(LEVELS, row.steps, row.gru, row.best, strict=True):
            published = " ".join(filter(None, (figure(gru), f"({figure(best)})" if best is not None else "")))
            experiments[f"popgym-{kebab}-{level.lower()}"] = Experiment(
                "POPGym",
                f"{row.task} {level}",
                row.preset,
                ("--env", f"rlstm/{row.task}{level}-v0", "--num-steps", str(num_steps), *row.flags),
                "return",
                -2.0 if gru is None else gru,  # No return is below.
                published,
            )
    return experiments


EXPERIMENTS = {
    "tmaze": Experiment("T-maze", "Corridor 20, LSTM", "tmaze", (), "success", 0.99),
    "tmaze-gru": Experiment("T-maze", "Corridor 20, GRU", "tmaze", ("--cell", "gru"), "success", 0.99),
    "tmaze-none": Experiment(
        "T-maze", "Corridor 20, no memory", "tmaze", ("--cell", "none", "--memory-length", "none"), "success", 0.99
    ),
    "tmaze-reinforce": Experiment(
        "T-maze", "Corridor 20, REINFORCE", "tmaze-reinforce", (), "success", 0.99, agent="reinforce"
    ),
    "tmaze-70": Experiment("T-maze", "Corridor 70", "tmaze-long", _corridor(70, 256, 2_000_000), "success", 0.99),
    "tmaze-100": Experiment("T-maze", "Corridor 100", "tmaze-long", _corridor(100, 256, 3_000_000), "success", 0.99),
    "tmaze-100-log-spaced": Experiment(
        "T-maze",
        "Corridor 100, time scales log-spaced",
        "tmaze-long",
        _corridor(100, 256, 3_000_000, "--memory-init", "log_spaced"),
        "success",
        0.99,
    ),
    "tmaze-250": Experiment("T-maze", "Corridor 250", "tmaze-long", (), "success", 0.99),
    **{
        f"tmaze-{length}": Experiment(
            "T-maze",
            f"Corridor {length}, begun at 100",
            "tmaze-long",
            (*_lengthened(length, num_steps, gamma), "--total-steps", "1000000"),
            "success",
            0.99,
            stages=(_SHORT_CORRIDOR,),
        )
        for length, num_steps, gamma in ((500, 1024, 0.995), (1000, 2048, 0.998))
    },
    **_evolved(20, 2_000_000),
    **_evolved(70, 5_000_000),
    **_evolved(100, 6_000_000),
    **{
        f"passive-{length}": Experiment(
            "Passive T-maze",
            f"Corridor {length:,}, by shorter ones",
            "passive-tmaze" if length == 100 else f"passive-tmaze-{length}",
            (),
            "success",
            0.99,
        )
        for length in (100, 250, 500, 1000)
    },
    "passive-1500": Experiment(
        "Passive T-maze",
        "Corridor 1,500, by shorter ones",
        "passive-tmaze-1000",
        ("--env-kwargs", "corridor_length=1500"),
        "success",
        0.99,
    ),
    "passive-250-lengthened": Experiment(
        "Passive T-maze",
        "Corridor 250, begun at 100",
        "passive-tmaze-250",
        (*_passive_at_once(251, 8_000_000, 1000), "--ent-coef", "0.01"),
        "success",
        0.99,
        stages=(("--env-kwargs", "corridor_length=100", *_passive_at_once(101, 2_000_000, 1000)),),
    ),
    "passive-100-plain": Experiment(
        "Passive T-maze",
        "Corridor 100, at once",
        "passive-tmaze",
        _passive_at_once(101, 3_000_000, 200),
        "success",
        0.99,
    ),
    "passive-250-plain": Experiment(
        "Passive T-maze",
        "Corridor 250, at once",
        "passive-tmaze-250",
        _passive_at_once(251, 12_000_000, 500),
        "success",
        0.99,
    ),
    "cartpole-no-vel": Experiment(
        "Hidden velocities", "CartPole, LSTM", "cartpole-no-vel", (), "return", 475.0, "500.0 at 100k"
    ),
    "cartpole-no-vel-none": Experiment(
        "Hidden velocities", "CartPole, no memory", "cartpole-no-vel", ("--cell", "none"), "return", 475.0
    ),
    "pendulum-no-vel": Experiment(
        "Hidden velocities", "Pendulum, LSTM", "pendulum-no-vel", (), "return", -217.9, "-217.9 at 100k"
    ),
    "mountain-car-no-vel": Experiment(
        "Hidden velocities", "MountainCarContinuous, LSTM", "mountain-car-no-vel", (), "return", 90.0, "91.5 at 300k"
    ),
    "pole-reinforce": Experiment(
        "Hidden velocities", "One pole, REINFORCE", "pole-reinforce", (), "success", 0.99, agent="reinforce"
    ),
    **_popgym(),
    "minigrid-memory-s7": Experiment("MiniGrid", "Memory S7", "minigrid-memory", (), "return", 0.95),
    "minigrid-memory-s9": Experiment(
        "MiniGrid", "Memory S9, by S7", "minigrid-memory-s9", (), "return", 0.95, ".895 ± .099, restricted"
    ),
    "minigrid-memory-s9-restricted": Experiment(
        "MiniGrid",
        "Memory S9, 3 actions, view of 3 x 3",
        "minigrid-memory",
        (
            *("--env", "rlstm/MiniGridMemoryS9-v0", "--env-kwargs", "view_size=3"),
            *("--env-wrappers", "actions=0,1,2", "one_hot=7", "--total-steps", "1000000"),
        ),
        "return",
        0.95,
        ".895 ± .099",
    ),
    "minigrid-memory-s13": Experiment(
        "MiniGrid", "Memory S13, by S7, S9, S11", "minigrid-memory-s13", (), "return", 0.82, ".82 at 10M"
    ),
    "minigrid-memory-s7-plain": Experiment(
        "MiniGrid", "Memory S7, no bonus", "minigrid-memory", _minigrid_plain("S7"), "return", 0.895
    ),
    "minigrid-memory-s9-plain": Experiment(
        "MiniGrid", "Memory S9, no bonus", "minigrid-memory", _minigrid_plain("S9"), "return", 0.895
    ),
    **{
        f"memory-length-{length}": Experiment(
            "bsuite", "Memory lengths 1 to 100", "memory-length", _memory_chain(length), "training return", 0.25
        )
        for length in MEMORY_LENGTHS
    },
}
