"""Pages of cells, envs, presets and the Python interface, from the package itself."""

import inspect
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from PIL import Image

import rlstm
import rlstm.testing
from rlstm.cells import CELLS
from rlstm.core.number_text import number
from rlstm.envs import ENVS
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.registration import SECTIONS
from rlstm.training.presets import PRESETS
from scripts.list_cells import FILE as CELLS_FILE
from scripts.list_envs import COLUMNS, base_and_level, name_of, reasons, table_row

_STEPS_BEFORE_PICTURE = 3
_PICTURE_WIDTH = 400
_MARGIN = 4  # Pixels below a text.

Pixels = npt.NDArray[np.uint8]


def write_cells(path: Path) -> None:
    """Write the page of all memory cells."""
    listed = json.loads(CELLS_FILE.read_text(encoding="utf-8"))
    text = [
        "# Cells",
        "",
        f"Parameters, and numbers of state in each env, with {listed['input_size']} inputs and "
        f"`--hidden-size {listed['hidden_size']}`. [Memory cells](../cells.md) says which to take.",
        "",
    ]
    for cell in listed["cells"]:
        kind = CELLS[cell["name"]]
        text += [
            f"## {cell['name']}",
            "",
            "| parameters | state | `--sequence` | source |",
            "|---|---|---|---|",
            f"| {number(cell['parameters'])} | {number(cell['state_size'])} | {', '.join(cell['sequences'])} "
            f"| {cell['source']} |",
            "",
            *_autodoc(f".. autoclass:: {kind.__module__}.{kind.__qualname__}"),
        ]
    path.write_text("\n".join(text), encoding="utf-8")


def write_envs(folder: Path) -> None:
    """Write a page for every section of envs, with a picture of every env, levels of a task sharing one."""
    names = []
    for title, env_ids in SECTIONS.items():
        name = "envs-" + re.sub(r"\W+", "-", title.lower())
        names.append(name)
        text, told = [f"# {title}", ""], dict[str, str]()
        for _, group in groupby(env_ids, key=lambda env_id: base_and_level(env_id)[0] + "-" + _level_mark(env_id)):
            text += _env(list(group), folder, told)
        (folder / f"{name}.md").write_text("\n".join(text), encoding="utf-8")
    listed = [
        "# Envs",
        "",
        "The tables of all envs are in the [list of envs](env-list.md). A page has pictures and rules.",
    ]
    tree = ["```{toctree}", ":maxdepth: 2", "", "Tables <env-list>", *names, "```", ""]
    (folder / "envs.md").write_text("\n".join([*listed, "", *tree]), encoding="utf-8")


def _level_mark(env_id: str) -> str:
    return "levels" if base_and_level(env_id)[1] else "one"


def _env(env_ids: list[str], folder: Path, told: dict[str, str]) -> list[str]:
    """Return the section of an env, or of a task at all levels; ``told`` has the tasks whose rules stand above."""
    first = ENVS[env_ids[0]]
    picture = folder / "pictures" / (first.id.partition("/")[2] + ".png")
    draw(first.id, picture)
    described = [ENVS[env_id].describe() for env_id in env_ids]
    columns = COLUMNS[1:]
    row = table_row(described).split("|", 2)[2]
    text = [f"## {name_of(env_ids)}", "", f"![{first.id} after a few random steps](pictures/{picture.name})", ""]
    text += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", f"|{row}", ""]
    for heading, lines in (
        ("Not known", reasons([described])),
        ("Arguments other than the defaults", arguments(env_ids)),
    ):
        text += [f"{heading}:", "", *lines, ""] if lines else []
    if first.task in told:
        return [*text, "", f"Rules and arguments are those of `{told[first.task]}` above.", ""]
    told[first.task] = first.id
    rules = re.sub(r"^## (.*)$", r"\n**\1**\n", inspect.getdoc(first.load_task()) or "", flags=re.MULTILINE)
    return [*text, "", rules, ""]


def arguments(env_ids: list[str]) -> list[str]:
    """Return a line for each env whose arguments aren't the defaults of its task."""
    given = {
        env_id: ", ".join(f"{name}={value!r}" for name, value in ENVS[env_id].arguments.items()) for env_id in env_ids
    }
    return [f"- `{env_id}`: `{words}`" for env_id, words in given.items() if words]


def draw(env_id: str, path: Path) -> None:
    """Save a picture of an env after a few random steps."""
    path.parent.mkdir(exist_ok=True)
    env: Any = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(_STEPS_BEFORE_PICTURE):
        frame = env.render()
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break
    else:
        frame = env.render()
    env.close()
    if ENVS[env_id].load_task().render_pixels is BatchedTask.render_pixels:
        frame = without_empty_rows(frame)
    image = Image.fromarray(frame)
    times = max(1, _PICTURE_WIDTH // image.width)
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(path, optimize=True)


def without_empty_rows(frame: Pixels) -> Pixels:
    """Return a picture of a text without the rows below its last line."""
    written = np.flatnonzero((frame != frame[-1, -1]).any(axis=(1, 2)))
    return frame[: written[-1] + _MARGIN]


def write_presets(path: Path) -> None:
    """Write the page of all presets."""
    text = ["# Presets", "", "`rlstm train AGENT --preset NAME`; a flag changes any of the settings.", ""]
    for name, preset in PRESETS.items():
        text += [
            f"## {name}",
            "",
            preset.description if preset.description.endswith(".") else f"{preset.description}.",
            "",
            "```console",
            f"rlstm train {preset.agent} --preset {name}",
            "```",
            "",
            "| setting | value |",
            "|---|---|",
            *(f"| `{setting}` | `{json.dumps(value)}` |" for setting, value in preset.settings.items()),
            "",
        ]
    path.write_text("\n".join(text), encoding="utf-8")


def write_api(path: Path) -> None:
    """Write the page of what Python users call and derive from."""
    functions = sorted(set(rlstm.__all__) - {"__version__"})
    text = ["# Python", "", "## rlstm", ""]
    text += [line for name in functions for line in _autodoc(f".. autofunction:: rlstm.{name}")]
    text += ["## What they return", ""]
    results = {
        "rlstm.training.result.TrainResult": True,
        "rlstm.api.seed_results.SeedsResult": True,
        "rlstm.api.tuning.result.TuneResult": True,
        "rlstm.evaluation.evaluate.EvaluationResult": True,
        "rlstm.evaluation.demonstrations.Demonstrations": True,
        "rlstm.api.env_checks.EnvReport": True,
        "rlstm.api.loaded_agent.LoadedAgent": True,
    }
    text += [line for name in results for line in _autodoc(f".. autoclass:: {name}", ":members:")]
    text += ["## rlstm.testing", ""]
    for name in rlstm.testing.__all__:
        value = getattr(rlstm.testing, name)
        kind = "autofunction" if inspect.isfunction(value) else "autoclass" if inspect.isclass(value) else "autodata"
        text += _autodoc(f".. {kind}:: rlstm.testing.{name}")
    text += ["## To derive from", ""]
    text += _autodoc(".. autoclass:: rlstm.cells.base.RecurrentCell", ":members:")
    text += _autodoc(".. autoclass:: rlstm.policies.encoders.Encoder", ":members:")
    path.write_text("\n".join(text), encoding="utf-8")


def _autodoc(directive: str, *settings: str) -> list[str]:
    return ["```{eval-rst}", directive, *(f"   {one}" for one in settings), "```", ""]
