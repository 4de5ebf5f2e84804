"""Draw the README's picture: an agent in a T-maze with its memory, and with its memory reset at every step.

    python -m scripts.draw_memory_gif                         # train the preset tmaze, draw docs/images/memory.gif
    python -m scripts.draw_memory_gif --run-dir runs/tmaze    # draw an agent that is already trained

Both rows show the same agent in the same mazes, the seeds 0, 1, 2, ... in order. Actions are sampled, as in
``make demo``: without its memory the agent may otherwise stay at the start until the episode is truncated. The
row that ends first waits for the other. The frames are those of the env; the captions count the correct turns.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import rlstm
import rlstm.envs  # Registers the envs.
from scripts.results_table import ROOT

OUTPUT = ROOT / "docs" / "images" / "memory.gif"
TITLES = ("with its memory", "its memory reset at every step")
RIGHT, WRONG, BLACK, WHITE = (30, 120, 50), (185, 45, 35), (30, 30, 30), (255, 255, 255)
MARGIN, CAPTION, COLOURS = 12, 30, 16
STEP_MILLISECONDS, END_MILLISECONDS = 40, 900


class Episode(NamedTuple):
    """One maze as it was played."""

    frames: list[np.ndarray]
    is_success: bool


def play(agent: Any, env: gymnasium.Env[Any, Any], seed: int, *, has_memory: bool) -> Episode:
    """Play one episode and return its frames, the one before the first action included."""
    observation, _ = env.reset(seed=seed)
    agent.reset()
    frames, is_over, info = [np.asarray(env.render())], False, {}
    while not is_over:
        if not has_memory:
            agent.reset()
        observation, _, terminated, truncated, info = env.step(agent.act(observation, deterministic=False))
        frames.append(np.asarray(env.render()))
        is_over = terminated or truncated
    return Episode(frames, bool(info["is_success"]))


def caption(title: str, right: int, played: int) -> str:
    """Return the line above a row."""
    return f"{title}: {right} of {played} turns correct" if played else title


def draw(frames: list[np.ndarray], captions: list[str], colours: list[tuple[int, int, int]]) -> Image.Image:
    """Return one picture: a row for each frame, under its caption."""
    height, width = frames[0].shape[:2]
    picture = Image.new("RGB", (width + 2 * MARGIN, len(frames) * (height + CAPTION) + MARGIN), WHITE)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for row, (frame, text, colour) in enumerate(zip(frames, captions, colours, strict=True)):
        top = row * (height + CAPTION)
        pen.text((MARGIN, top + 6), text, fill=colour, font=font)
        picture.paste(Image.fromarray(frame), (MARGIN, top + CAPTION))
    return picture


def film(mazes: list[tuple[Episode, Episode]]) -> tuple[list[Image.Image], list[int]]:
    """Return the pictures and for how many milliseconds each is shown."""
    pictures, durations, right = [], [], [0, 0]
    for number, episodes in enumerate(mazes):
        lengths = [len(episode.frames) for episode in episodes]
        for index in range(max(lengths)):
            lines, colours = [], []
            for row, episode in enumerate(episodes):
                is_over = index >= lengths[row] - 1
                lines.append(caption(TITLES[row], right[row] + (is_over and episode.is_success), number + is_over))
                colours.append((RIGHT if episode.is_success else WRONG) if is_over else BLACK)
            frames = [episode.frames[min(index, len(episode.frames) - 1)] for episode in episodes]
            pictures.append(draw(frames, lines, colours))
            durations.append(STEP_MILLISECONDS)
        durations[-1] = END_MILLISECONDS
        right = [count + episode.is_success for count, episode in zip(right, episodes, strict=True)]
    return pictures, durations


def main() -> None:
    """Train if need be, play, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", help="a trained agent of rlstm/TMaze-v0; by default one is trained")
    parser.add_argument("--mazes", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = arguments.run_dir or rlstm.train("ppo", "tmaze", run_dir=f"{folder}/run", ui="none").run_dir
        agent = rlstm.load(run_dir)
    torch.manual_seed(0)  # Of the sampled actions.
    env = gymnasium.make("rlstm/TMaze-v0", render_mode="rgb_array")
    pairs = [[play(agent, env, seed, has_memory=kept) for kept in (True, False)] for seed in range(arguments.mazes)]
    env.close()
    pictures, durations = film([(first, second) for first, second in pairs])
    # One palette for all pictures: an adaptive one for each would flicker and take more space.
    palette = pictures[-1].quantize(COLOURS)
    small = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    small[0].save(arguments.output, save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=True)
    for title, episodes in zip(TITLES, itertools.zip_longest(*pairs), strict=True):
        print(f"{title}: {sum(episode.is_success for episode in episodes)} of {len(episodes)} turns correct")
    print(f"{arguments.output}: {len(small)} pictures, {arguments.output.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
