"""``rlstm export RUN_DIR --format onnx --out DIR``: a trained policy as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from rlstm.cli.answers import Answer
from rlstm.cli.flag_types import read_checkpoint
from rlstm.cli.parsing import Json, JsonFlags, Positional, import_first, named, parse
from rlstm.cli.tables import facts
from rlstm.core.number_text import number
from rlstm.export import FORMATS, SOURCES


@dataclass(frozen=True, kw_only=True)
class ExportFlags(JsonFlags):
    """Write a trained policy as a model of one step that needs none of this library, and check that it is the same."""

    run_dir: Annotated[Positional[str], named("RUN_DIR")]
    """Folder of the run."""

    format: Annotated[str, named("|".join((*FORMATS, *SOURCES)))]
    """The format, see above."""

    out: Annotated[str, named("DIR")]
    """Folder to write; it must not exist, or be empty."""

    checkpoint: Annotated[str | None, named("latest|best|STEP")] = None
    """Which checkpoint: latest, best, or the step of one. Default: the best where there is one."""

    env_import: tuple[str, ...] = ()
    """Modules to import first: those that the run names, which are not imported by themselves, and others."""

    trust: Json = False
    """Import the modules that the run names, and take its env from the entry points that it names: runs their code."""


def run(words: list[str]) -> Answer:
    """Export the run."""
    formats = "".join(f"\n\n{name}: {text}." for name, (_, text) in {**FORMATS, **SOURCES}.items())
    flags = parse(ExportFlags, words, "export", f"{ExportFlags.__doc__}{formats}")
    import_first(flags.env_import)
    checkpoint = None if flags.checkpoint is None else read_checkpoint(flags.checkpoint)
    from rlstm.api.exports import export
    from rlstm.core.process import prepare_process
    from rlstm.export.check import BATCH_SIZES, NUM_STEPS

    prepare_process(1)
    found = export(flags.run_dir, format=flags.format, out=flags.out, checkpoint=checkpoint, trust=flags.trust)
    values: dict[str, Any] = {
        "run_dir": flags.run_dir,
        "format": flags.format,
        "out": flags.out,
        "checkpoint_step": found.description["checkpoint_step"],
        "files": found.files,
        "largest_error": found.largest_error,
    }
    files = ", ".join(f"{name} ({number(size)} bytes)" for name, size in found.files.items())
    sizes = " and ".join(map(str, BATCH_SIZES))
    checked = "compiled, step by step" if flags.format in SOURCES else f"{NUM_STEPS} steps of {sizes} envs"
    lines = {
        "run": flags.run_dir,
        "checkpoint": f"step {values['checkpoint_step']:,}",
        "written": f"{flags.out}: {files}",
        "checked": f"{checked}; largest error {found.largest_error:.1e}"
        if found.largest_error is not None
        else "not at all: there is no C compiler here",
    }
    return Answer(facts(lines), values)
