"""Digit strips: images are looked up in the list of all."""

import functools
from typing import Any

import numpy as np

from rlstm.envs.sequences.digit_images import SIDE, load_split

VARIANTS = {"rlstm/DigitStrips-v0": [{"split": "test", "min_labels": 1, "max_labels": 3, "height": 8, "max_gap": 1}]}


@functools.cache
def known_images(split: str) -> dict[bytes, int]:
    images, digits = load_split(split)
    return {image.astype(np.float32).tobytes(): int(digit) for image, digit in zip(images, digits, strict=True)}


def look_the_last_columns_up(observations: list[Any], env: Any) -> Any:
    """The digit whose image the last 8 columns are, at any height; the blank if they are none."""
    answers = np.full(env.num_envs, env.task.blank)
    if len(observations) < SIDE:
        return answers
    strips = np.stack(observations[-SIDE:], axis=2)  # (B, height, 8)
    known = known_images(env.task.split)
    for lane, strip in enumerate(strips):
        for top in range(env.task.height - SIDE + 1):
            answers[lane] = known.get(np.ascontiguousarray(strip[top : top + SIDE]).tobytes(), answers[lane])
    return answers


OPTIMAL = {"rlstm/DigitStrips-v0": look_the_last_columns_up}
