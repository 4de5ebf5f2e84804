"""From words to a dataclass of flags: one call of tyro, whose complaints become one line each."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from rlstm.api.configs import agents_with
from rlstm.cli.answers import UsageError
from rlstm.cli.flag_types import REGISTRY, read_checkpoint
from rlstm.cli.words import flag_name
from rlstm.training.config import Actions
from rlstm.training.setting_names import ELSEWHERE, RENAMED

if TYPE_CHECKING:
    from rlstm.api.curves import Curves

FlagsT = TypeVar("FlagsT")
ItemT = TypeVar("ItemT")
Flat: Any = tyro.conf.OmitArgPrefixes
"""Marks a nested dataclass whose flags have no prefix."""

Positional = Annotated[ItemT, tyro.conf.Positional]
"""Marks a field that is given without a flag."""

Json = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""A switch without its negative."""


_NEEDED = "(required)"  # tyro takes several words for optional.


@dataclass(frozen=True, kw_only=True)
class JsonFlags:
    """The flags of every verb."""

    json: Json = False
    """Print one JSON object on the last line of stdout."""


@dataclass(frozen=True, kw_only=True)
class DisplayFlags(JsonFlags):
    """The flags of a verb that trains."""

    ui: Literal["auto", "rich", "plain", "none"] = "auto"
    """The display: live on a terminal, lines elsewhere, or none. It goes to stderr."""


@dataclass(frozen=True, kw_only=True)
class PlayFlags(JsonFlags):
    """The flags of a verb that plays with a trained agent."""

    run_dir: Annotated[Positional[str], tyro.conf.arg(metavar="RUN_DIR")]
    """Folder of the run."""

    checkpoint: Annotated[str | None, tyro.conf.arg(metavar="latest|best|STEP")] = None
    """Which checkpoint: latest, best, or the step of one. Default: the best where there is one."""

    actions: Actions | None = None
    """Take the likeliest actions, or sample them. Default: as evaluations during the run did."""

    env_import: tuple[str, ...] = ()
    """Modules to import first: those that the run names, which are not imported by themselves, and others."""

    trust: Json = False
    """Import the modules that the run names, and take its env from the entry points that it names: runs their code."""

    seed: int = 0
    """Decides the episodes; those of training, evaluations and recordings are never the same."""

    num_threads: int | None = None
    """Threads of torch. Default: the run's --num-threads, or one: single steps gain little from more."""

    def choices(self) -> dict[str, Any]:
        """Return them as arguments of ``evaluate_run`` and ``record``, and import what is to be imported.

        Raises:
            UsageError: If the checkpoint is none.
        """
        import_first(self.env_import)
        checkpoint = None if self.checkpoint is None else read_checkpoint(self.checkpoint)
        deterministic = None if self.actions is None else self.actions == "likeliest"
        choices = {"seed": self.seed, "deterministic": deterministic, "checkpoint": checkpoint}
        return {**choices, "num_threads": self.num_threads, "trust": self.trust}

    def chosen(self) -> dict[str, Any]:
        """Return what is played and how, for programs."""
        from rlstm.api.stored_runs import best_or_latest
        from rlstm.training.checkpoints import checkpoint_step
        from rlstm.training.run_directory import RunDirectory

        directory = RunDirectory(self.run_dir)
        checkpoint = best_or_latest(directory) if self.checkpoint is None else read_checkpoint(self.checkpoint)
        return {
            "run_dir": self.run_dir,
            "checkpoint": checkpoint,
            "checkpoint_step": checkpoint_step(directory, checkpoint),
            "actions": self.actions or _run_actions(directory),
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class CurvesFlags(JsonFlags):
    """The flags of a verb that reads the learning curves of runs."""

    runs: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN_OR_FOLDER ...", help_behavior_hint=_NEEDED)]
    """Folders of runs; one that is no run is searched for runs."""

    metric: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """A column of progress.csv. Default: eval/mean_reward where there is any, else rollout/ep_rew_mean."""

    env_import: tuple[str, ...] = ()
    """Modules to import first: those that the runs name, which are not imported by themselves, and others."""

    trust: Json = False
    """Import the modules that the runs name, and take their env from the entry points that they name: runs code."""

    def curves(self, *, by_folder: bool) -> Curves:
        """Read them; see ``read_curves``.

        Raises:
            UsageError: If no folder is given.
        """
        if not self.runs:
            raise UsageError("No run is given: name folders of runs, or one that holds them, e.g. runs.")
        import_first(self.env_import)
        from rlstm.api.curves import read_curves

        return read_curves(self.runs, self.metric, by_folder=by_folder, trust=self.trust)


def _run_actions(directory: Any) -> str:
    """Return how evaluations of a run choose actions."""
    from rlstm.api.stored_runs import read_config

    stored = directory.read_spaces()  # A run of an earlier version says itself how it evaluates.
    numbers = stored is not None and stored["action_space"]["type"] == "Box"
    return read_config(directory).eval_actions(numbers=numbers)


def import_first(modules: Sequence[str]) -> None:
    """Import the modules that a flag names."""
    if modules:
        from rlstm.vector.specs import import_modules

        import_modules(modules)


def how(chosen: dict[str, Any]) -> str:
    """Say what ``PlayFlags.chosen`` returned."""
    name, step = chosen["checkpoint"], f"step {chosen['checkpoint_step']:,}"
    checkpoint = f"{name}, {step}" if isinstance(name, str) else step
    return f"checkpoint {checkpoint}; {chosen['actions']} actions, seed {chosen['seed']}"


def named(metavar: str) -> Any:
    """Return the mark that names a value in the help."""
    return tyro.conf.arg(metavar=metavar)


_REPEATABLE = ("--env-import", "--env-kwargs", "--env-wrappers", "--search")


def parse(
    flags_type: type[FlagsT],
    words: Sequence[str],
    verb: str,
    description: str | None = None,
    default: FlagsT | None = None,
) -> FlagsT:
    """Read the command line into a dataclass; the docstrings of its fields are the help.

    Args:
        flags_type: The dataclass; nested ones give prefixed flags, or flat ones if marked ``Flat``.
        words: What follows the verb.
        verb: What the user typed after ``rlstm`` so far, e.g. ``train ppo``.
        description: The first lines of the help; the docstring of the type by default.
        default: Holds the defaults, where they are not those of the type.

    Raises:
        UsageError: If a flag is unknown, with the nearest valid one, or a value is wrong.
        SystemExit: If help was asked for, after it has been printed.
    """
    prog = f"rlstm {verb}"
    options: dict[str, Any] = {
        "prog": prog,
        "description": description or flags_type.__doc__,
        "registry": REGISTRY,
        "config": (tyro.conf.HelptextFromCommentsOff,),  # Which would read the sources once more.
    }
    if default is not None:
        options["default"] = default

    def read(words: list[str]) -> FlagsT:
        complaint = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaint):
                flags: FlagsT = tyro.cli(flags_type, args=words, **options)
        except SystemExit as stop:
            if not stop.code:
                raise
            raise UsageError(_one_line(complaint.getvalue())) from None
        return flags

    words = _gather(words)
    try:
        return read(words)
    except UsageError as error:
        told = str(error)
    surplus = re.match(r"Unrecognized options: ([^\s|,-][^\s|,]*)", told)
    if surplus is not None:
        raise UsageError(f"'{surplus[1]}' is one argument too many. See '{prog} --help'.")
    unknown = re.match(r"Unrecognized options: [^|]*?(--[^\s,]+)", told)
    if unknown is None:
        raise UsageError(f"{_first_sentence(told)} See '{prog} --help'.")
    here = _called_here(flag_name(unknown[1]))
    near = None if here else _nearest(unknown[1], words, read)
    hint = f"It is called '{here}' here. " if here else f"Did you mean '{near}'? " if near else ""
    if others := agents_with(flag_name(unknown[1]).removeprefix("--").replace("-", "_")):
        hint = f"It is a flag of {' and '.join(others)}. "
    raise UsageError(f"Unknown flag '{flag_name(unknown[1])}'. {hint}See '{prog} --help'.")


def _called_here(flag: str) -> str | None:
    """Return what a flag of another library is called here."""
    name, _, value = ELSEWHERE.get(flag.removeprefix("--").replace("-", "_"), "").partition("=")
    return f"--{name.replace('_', '-')}{f' {value}' if value else ''}" if name else None


def _nearest(unknown: str, words: list[str], read: Callable[[list[str]], object]) -> str | None:
    """Return the flag that an unknown one was meant to be, or None.

    tyro finds misspelt flags and those whose prefix was left out, but not those with a prefix too many: it is asked for
    the name with and without prefix, in its place.
    """
    place = next(index for index, word in enumerate(words) if word.startswith(unknown))
    name, equals, value = words[place].partition("=")
    name = flag_name(name)
    setting = name.removeprefix("--").replace("-", "_")
    if setting in RENAMED:
        return "--" + RENAMED[setting].replace("_", "-")
    for flag in (name, "--" + name.removeprefix("--").rpartition(".")[2]):
        try:
            read([*words[:place], flag, *([value] if equals else []), *words[place + 1 :]])
            return flag
        except UsageError as error:
            refused, _, similar = str(error).partition(" | ")
        found = re.search(rf"(?:Perhaps you meant|Arguments similar to {re.escape(flag)}): (--[\w.-]+)", similar)
        if found or flag not in re.split(r"[ ,]+", refused):
            return found[1] if found else flag
    return None


def _gather(words: Sequence[str]) -> list[str]:
    """Join what repeated flags that take several values were given, so that the last does not replace the others."""
    kept: list[str] = []
    gathered: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        name = flag_name(word)
        if name in _REPEATABLE:
            current = gathered.setdefault(name, [])
            current += [word.partition("=")[2]] if "=" in word else []
        elif current is None or word.startswith("-"):
            current = None
            kept.append(word)
        else:
            current.append(word)
    return kept + [word for name, values in gathered.items() for word in (name, *values)]


def _one_line(box: str) -> str:
    """Return the text of tyro's box, its parts separated by bars."""
    rows = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    return " ".join("|" if row.startswith("───") else row for row in rows if row) or box.strip()


def _first_sentence(told: str) -> str:
    """Return what tyro told first, as a sentence that begins with the flag."""
    text = told.partition(" |")[0] or "The command line can't be read."
    text = re.sub(r"^Missing from [^:]*: (\S+) .*", r"\1 is missing.", text)
    text = re.sub(r"^Error parsing (\S+):", r"\1:", text)
    return text[:1].upper() + text[1:] if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."
