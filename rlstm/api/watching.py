"""Watch an agent: episodes as a film in a file, or live."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlstm.api.finished_runs import FinishedRun, open_run
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.process import prepare_process
from rlstm.inspection.playback import Playback, frames_per_second, has_screen, make_env, render_modes
from rlstm.training.config import ConfigError, refusals_name_settings


@dataclass(frozen=True)
class Screening:
    """One agent to watch."""

    run: FinishedRun
    title: str
    ablate_memory: bool = False


def choose_mode(offered: Sequence[str], *, to_file: bool) -> str:
    """Return how an env shall draw: images for a file, else its own window where there is a screen, else text.

    Raises:
        EnvironmentFailure: If it offers nothing of it.
    """
    wanted = ("rgb_array", "ansi") if to_file else ("human", "ansi")
    found = [mode for mode in wanted if mode in offered and (mode != "human" or has_screen())]
    if found:
        return found[0]
    if not to_file and "rgb_array" in offered:
        raise EnvironmentFailure("The env draws images only: write them to a file with --out film.gif.")
    why = "" if to_file or "human" not in offered else " and there is no screen for its window"
    raise EnvironmentFailure(
        f"The env can't be watched: it offers {', '.join(offered) or 'no render mode'}{why}. Watching needs "
        f"{' or '.join(wanted)} in metadata['render_modes']."
    )


def screenings(
    run_dir: str | os.PathLike[str],
    *,
    beside: str | None = None,
    ablate_memory: bool = False,
    checkpoint: Any = None,
    env_kwargs: dict[str, Any] | None = None,
    trust: bool = False,
) -> list[Screening]:
    """Open what is to be watched: a run, and beside it another one, or the same without its memory.

    If they are trusted, the modules and entry points that they name are taken.

    Raises:
        ConfigError: If the two are of different envs.
    """
    prepare_process()
    run = open_run(run_dir, checkpoint, env_kwargs=env_kwargs, trust=trust)
    own = f"{run.config.env.env}, step {run.step:,}"
    reset = "memory reset at every step"
    first = Screening(run, f"{own}, {reset}" if ablate_memory else own, ablate_memory)
    if beside is None:
        return [first]
    if beside == "ablated":
        return [Screening(run, f"{own}, its memory kept"), Screening(run, f"{own}, {reset}", ablate_memory=True)]
    other = open_run(beside, env_kwargs=env_kwargs, trust=trust)
    if other.config.env.env != run.config.env.env:
        raise ConfigError(
            f"{run_dir} is of env '{run.config.env.env}', {beside} of '{other.config.env.env}': only agents of one env "
            "can be watched side by side."
        )
    names = [Path(one).resolve().name for one in (run_dir, beside)]
    return [Screening(one, f"{name}, step {one.step:,}") for one, name in zip((run, other), names, strict=True)]


def write(
    shown: Sequence[Screening],
    out: str | os.PathLike[str],
    *,
    episodes: int = 3,
    seed: int = 0,
    deterministic: bool | None = None,
    fps: float | None = None,
    max_steps: int = 1000,
) -> tuple[Path, list[list[float]]]:
    """Write a film of some episodes, the same for all agents; return its path and the returns of each agent.

    Raises:
        EnvironmentFailure: If the env can't draw, or breaks.
        ValueError: If the ending of the file is none that can be written.
    """
    from rlstm.envs.base.pictures import draw_text
    from rlstm.inspection.pictures import check_film, film_episode, side_by_side, write_film

    path = Path(out)
    with refusals_name_settings():
        check_film(path)
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"--out is {out}, but there is no folder {path.resolve().parent}. Make it first.")
    films, returns = [], []
    for one in shown:
        played, speed = _play(one, episodes, seed, deterministic, max_steps)
        films.append([film_episode(episode, one.title, fps or speed, draw_text) for episode in played])
        returns.append([episode.total for episode in played])
    pictures = [picture for parallel in zip(*films, strict=True) for picture in side_by_side(parallel)]
    return write_film(pictures, path), returns


def _play(
    shown: Screening, episodes: int, seed: int, deterministic: bool | None, max_steps: int
) -> tuple[list[Any], float]:
    run = shown.run
    mode = choose_mode(render_modes(run.spec, run.config.env), to_file=True)
    with closing(make_env(run.spec, run.config.env, run.config.memory, render_mode=mode)) as env:
        playback = Playback(
            run.policy,
            env,
            seed=seed,
            deterministic=run.takes_likeliest(deterministic),
            ablate_memory=shown.ablate_memory,
            max_steps=max_steps,
        )
        return [playback.play() for _ in range(episodes)], frames_per_second(env)


def live(
    shown: Screening,
    *,
    episodes: int = 3,
    seed: int = 0,
    deterministic: bool | None = None,
    fps: float | None = None,
    max_steps: int = 100_000,
    say: Callable[[str], None] = print,
) -> list[float]:
    """Show episodes in the env's own window, or as text; return their returns.

    Raises:
        EnvironmentFailure: If the env can be shown in neither way, or breaks.
    """
    from rlstm.inspection.pictures import describe

    run = shown.run
    mode = choose_mode(render_modes(run.spec, run.config.env), to_file=False)
    returns = []
    with closing(make_env(run.spec, run.config.env, run.config.memory, render_mode=mode)) as env:
        likeliest = run.takes_likeliest(deterministic)
        options: dict[str, Any] = {"deterministic": likeliest, "ablate_memory": shown.ablate_memory}
        playback = Playback(run.policy, env, seed=seed, max_steps=max_steps, **options)
        pause = 0.0 if mode == "human" and fps is None else 1 / (fps or frames_per_second(env))
        for number in range(episodes):
            for moment, episode in playback.episode():
                note = "   memory reset" if moment.is_first else ""
                lines = [*([moment.frame] if mode == "ansi" else []), *describe(moment, len(episode.moments) - 1)]
                say("\n".join(lines) + note + "\n")
                time.sleep(pause)
            if mode == "ansi":
                say(f"{episode.last_frame}\nepisode {number + 1}: return {episode.total:.4g}\n")
            returns.append(episode.total)
    return returns
