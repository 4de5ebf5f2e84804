"""``rlstm train AGENT``: train an agent into a new run directory.

The flags are the fields of the experiment's config dataclasses, the agent's own among them. Their defaults are what the
preset and the config file leave, so flags win over the file, the file over the preset, the preset over the defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rlstm.cli.answers import INTERRUPTED, Answer, UsageError
from rlstm.cli.parsing import DisplayFlags, Flat, parse
from rlstm.cli.tables import facts
from rlstm.cli.words import given_value, has_flag, without_flags
from rlstm.core.number_text import number, percent
from rlstm.core.ranks import torchrun_ranks
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.config_layers import read_config_file
from rlstm.training.presets import presets_for
from rlstm.training.setting_names import PARTS, PREFIXED

if TYPE_CHECKING:
    from rlstm.training.result import TrainResult


_FOOT = "What there is: rlstm envs, rlstm cells, rlstm presets."

FlagsT = TypeVar("FlagsT", bound="CommandFlags")


@dataclass(frozen=True, kw_only=True)
class CommandFlags(DisplayFlags):
    """The command."""

    preset: str | None = None
    """Start from a preset, see 'rlstm presets'; its values become the defaults below."""

    config: str | None = None
    """Start from a TOML file of settings, by the names of the flags; it wins over the preset, flags over it."""

    seeds: tuple[int, ...] = ()
    """Train once for each of these seeds, each in a process of its own; the run directory is the folder of all."""

    jobs: int | None = None
    """Seeds that are trained at a time. Default: as many as there are cores, for their threads."""


def run(words: list[str]) -> Answer:
    """Train the agent named by the first word.

    Raises:
        UsageError: If the command line can't be understood.
        UnknownNameError: If the agent, the preset, the env or the cell is unknown.
        ConfigError: If settings make no sense.
    """
    agent = named_agent("train", words)
    config, flags = experiment(agent, words[1:])
    note = None if flags.preset is not None or flags.config is not None else _preset_note(agent, config.env.env)
    if _asks_for_seeds(flags, words):
        return _train_seeds(config, flags, words, note)
    from rlstm.api.experiments import train_config

    return training_answer(train_config(config, ui=flags.ui, command=["rlstm", "train", *words], note=note))


def _asks_for_seeds(flags: CommandFlags, words: Sequence[str]) -> bool:
    """Return whether there are several seeds, or one in a folder of seeds.

    Raises:
        UsageError: If the flags of seeds contradict each other.
    """
    if not has_flag(words, "--seeds"):
        if flags.jobs is not None:
            raise UsageError(f"--jobs is {flags.jobs}, but it is for many seeds: name them with --seeds 0 1 2.")
        return False
    if not flags.seeds:
        raise UsageError("--seeds names no seed: give some, e.g. --seeds 0 1 2.")
    if has_flag(words, "--seed"):
        raise UsageError("--seed and --seeds are both given: leave --seed out.")
    return True


def _train_seeds(config: ExperimentConfig[Any], flags: CommandFlags, words: list[str], note: str | None) -> Answer:
    from rlstm.api.seeds import train_seeds_config
    from rlstm.cli.seeds_answers import seeds_answer

    single = without_flags(words, ("--seeds", "--jobs", "--run-dir", "--ui", "--json"))
    threads = [] if config.run.num_threads else ["--num-threads", "1"]
    result = train_seeds_config(
        config,
        flags.seeds,
        jobs=flags.jobs,
        ui=flags.ui,
        command=["rlstm", "train", *words],
        seed_command=["rlstm", "train", *single, *threads],
        note=note,
    )
    return seeds_answer(result)


def _preset_note(agent: str, env: str) -> str | None:
    """Return in one line that there are presets for this env, or None."""
    names = presets_for(agent, env)
    if not names:
        return None
    kind = "a preset for this env" if len(names) == 1 else "presets for this env"
    return f"There {'is' if len(names) == 1 else 'are'} {kind}: {' or '.join(f'--preset {name}' for name in names)}"


def named_agent(verb: str, words: Sequence[str], foot: str = _FOOT) -> str:
    """Return the agent that the first word after a verb names; help that is asked for instead is printed.

    Raises:
        UsageError, UnknownNameError: If there is none.
        SystemExit: After the help.
    """
    from rlstm.agents import AGENTS
    from rlstm.core.errors import unknown_name

    if words and words[0] in ("-h", "--help"):
        print(_agents_help(verb, foot))
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UsageError(f"Name an agent first: rlstm {verb} {{{','.join(AGENTS)}}} --env ID ...")
    if words[0] not in AGENTS:
        raise unknown_name("agent", words[0], AGENTS)
    return words[0]


def _agents_help(verb: str, foot: str) -> str:
    from rlstm.agents import AGENTS, load_agent_config

    width = max(map(len, AGENTS))
    lines = [f"  {name:{width}}  {(load_agent_config(name).__doc__ or '').strip().splitlines()[0]}" for name in AGENTS]
    command = f"rlstm {verb} AGENT"
    head = f"usage: {command} --env ID [FLAGS]\n       {command} --preset NAME [FLAGS]\n\nAgents:"
    return "\n".join([head, *lines, f"\nAll flags of an agent: {command} --help.\n{foot}"])


def experiment(agent: str, words: Sequence[str]) -> tuple[ExperimentConfig[Any], CommandFlags]:
    """Return the experiment of a command line, and the flags that are no settings."""
    config, flags, _ = read_experiment("train", agent, words, CommandFlags())
    return config, flags


def read_experiment(
    verb: str, agent: str, words: Sequence[str], command: FlagsT
) -> tuple[ExperimentConfig[Any], FlagsT, set[str]]:
    """Return the experiment of a command line, the flags that are no settings, and the settings that flags name.

    Args:
        verb: The verb.
        agent: The agent.
        words: What follows.
        command: The defaults of the flags that are no settings.
    """
    from rlstm.api.configs import config_from_layers

    preset = given_value(words, "--preset")
    file_settings = _file_settings(agent, given_value(words, "--config"))
    draft = config_from_layers(agent, preset, file_settings, complete=False)
    parts = [getattr(draft, part) for part in PARTS]
    command_type: Any = type(command)
    flags_type = _flags_type(command_type, *map(type, parts))
    flags = parse(
        flags_type,
        words,
        f"{verb} {agent}",
        f"{verb.capitalize()}: {(type(draft.algorithm).__doc__ or agent).strip().splitlines()[0]}",
        flags_type(command, *parts),
    )
    shown = draft.settings()
    read = dataclasses.replace(draft, **{part: getattr(flags, part) for part in PARTS}).settings()
    # A default that no flag replaced is the very object that was shown: env arguments equal to those of a preset for
    # another env are the user's.
    given = {name: value for name, value in read.items() if value is not shown[name]}
    named = _named_settings(words, shown) | given.keys()
    return config_from_layers(agent, preset, file_settings, given), flags.command, named


def _named_settings(words: Sequence[str], settings: Collection[str]) -> set[str]:
    """Return the settings that flags name, also those that are set to what they are anyway."""
    names = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    return {name for name in settings if names & {name, f"no_{name}", ".no_".join(name.rsplit(".", 1))}}


def _file_settings(agent: str, path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    settings = read_config_file(path)
    named = settings.pop("agent", agent)
    if named != agent:
        raise ConfigError(f"The config file {path} is for agent '{named}', the command line names '{agent}'.")
    return settings


@functools.cache
def _flags_type(command_type: Any, *part_types: Any) -> Any:
    """Return the dataclass of all flags: those of the command, then those of the parts."""
    fields: list[tuple[str, Any]] = [("command", Annotated[command_type, Flat])]
    for part, part_type in zip(PARTS, part_types, strict=True):
        fields.append((part, part_type if part in PREFIXED else Annotated[part_type, Flat]))
    return dataclasses.make_dataclass("TrainFlags", fields, frozen=True)


def _evaluations(result: TrainResult) -> dict[str, str]:
    """Return lines on the evaluations."""
    if result.eval_return is None:
        return {}
    chosen = f"{result.eval_actions} actions, on episodes of its own"
    lines = {"evaluated": f"{number(result.eval_return)} at the end; {chosen}"}
    if result.best_return is not None and result.best_step is not None:
        lines["best"] = f"{number(result.best_return)} at step {number(result.best_step)}"
    return lines


def training_answer(result: TrainResult) -> Answer:
    """Return what a finished or stopped training says; exit code 130 if Ctrl-C stopped it before its end."""
    values, stopped = dict(vars(result)), result.interrupted and not result.complete
    exit_code = INTERRUPTED if stopped else 0
    if torchrun_ranks()[0] > 0:
        return Answer("", values, exit_code=exit_code)  # Rank 0 speaks for all, and has the folder.
    folder, words = shlex.quote(result.run_dir), _run_words(result.run_dir)
    lines = {
        "trained": f"{number(result.steps)} steps, {number(result.wall_seconds)} s of play and learning "
        f"({number(result.steps_per_second)} steps/s)",
        "return": f"{number(result.mean_return)}, mean of the last episodes of training",
        "success": percent(result.success_rate),
        **_evaluations(result),
        "run": result.run_dir,
        "evaluate": f"rlstm evaluate {words}",
        "curves": f"tensorboard --logdir {folder}",
    }
    if result.mean_return is None:
        lines["return"] = "unknown: no episode has ended"
    if result.success_rate is None:
        del lines["success"]
    if stopped:
        lines["go on"] = f"rlstm resume {words}"
    return Answer(facts(lines), values, exit_code=exit_code)


def _run_words(run_dir: str) -> str:
    """Return what follows a verb that plays with a run."""
    from rlstm.api.stored_runs import read_config
    from rlstm.training.hints import run_words
    from rlstm.training.run_directory import RunDirectory

    return run_words(run_dir, read_config(RunDirectory(run_dir)).env)
