"""``rlstm train AGENT``: train an agent into a new run directory.

The flags are the fields of the experiment's config dataclasses, the agent's own among them. Their defaults are what the
preset and the config file leave, so flags win over the file, the file over the preset, the preset over the defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import DisplayFlags, Flat, parse
from rlstm.cli.tables import facts
from rlstm.cli.words import given_value, has_flag, without_flags
from rlstm.core.number_text import number, percent
from rlstm.training.config import PARTS, PREFIXED, ConfigError, ExperimentConfig, read_config_file
from rlstm.training.presets import presets_for

if TYPE_CHECKING:
    from rlstm.training.run import TrainResult


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
    agent = _agent(words)
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


def _agent(words: Sequence[str]) -> str:
    from rlstm.agents import AGENTS
    from rlstm.core.errors import unknown_name

    if words and words[0] in ("-h", "--help"):
        print(_agents_help())
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UsageError(f"Name an agent first: rlstm train {{{','.join(AGENTS)}}} --env ID ...")
    if words[0] not in AGENTS:
        raise unknown_name("agent", words[0], AGENTS)
    return words[0]


def _agents_help() -> str:
    from rlstm.agents import AGENTS, load_agent_config

    width = max(map(len, AGENTS))
    lines = [f"  {name:{width}}  {(load_agent_config(name).__doc__ or '').strip().splitlines()[0]}" for name in AGENTS]
    head = "usage: rlstm train AGENT --env ID [FLAGS]\n       rlstm train AGENT --preset NAME [FLAGS]\n\nAgents:"
    foot = "\nAll flags of an agent: rlstm train AGENT --help.\nWhat there is: rlstm envs, rlstm cells, rlstm presets."
    return "\n".join([head, *lines, foot])


def experiment(agent: str, words: Sequence[str]) -> tuple[ExperimentConfig[Any], CommandFlags]:
    """Return the experiment of a command line, and the flags that are no settings."""
    from rlstm.api.configs import config_from_layers

    preset = given_value(words, "--preset")
    file_settings = _file_settings(agent, given_value(words, "--config"))
    draft = config_from_layers(agent, preset, file_settings, complete=False)
    parts = [getattr(draft, part) for part in PARTS]
    flags_type = _flags_type(*map(type, parts))
    flags = parse(
        flags_type,
        words,
        f"train {agent}",
        f"Train: {(type(draft.algorithm).__doc__ or agent).strip().splitlines()[0]}",
        flags_type(CommandFlags(), *parts),
    )
    shown = draft.settings()
    read = dataclasses.replace(draft, **{part: getattr(flags, part) for part in PARTS}).settings()
    # A default that no flag replaced is the very object that was shown: env arguments equal to those of a preset for
    # another env are the user's.
    given = {name: value for name, value in read.items() if value is not shown[name]}
    return config_from_layers(agent, preset, file_settings, given), flags.command


def _file_settings(agent: str, path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    settings = read_config_file(path)
    named = settings.pop("agent", agent)
    if named != agent:
        raise ConfigError(f"The config file {path} is for agent '{named}', the command line names '{agent}'.")
    return settings


@functools.cache
def _flags_type(*part_types: Any) -> Any:
    """Return the dataclass of all flags: those of the command, then those of the parts."""
    fields: list[tuple[str, Any]] = [("command", Annotated[CommandFlags, Flat])]
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
    return Answer(facts(lines), values, exit_code=130 if stopped else 0)


def _run_words(run_dir: str) -> str:
    """Return what follows a verb that plays with a run."""
    from rlstm.api.experiments import read_config
    from rlstm.training.hints import run_words
    from rlstm.training.run_directory import RunDirectory

    return run_words(run_dir, read_config(RunDirectory(run_dir)).env)
