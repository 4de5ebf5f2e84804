"""Pictures of moments: frames with a caption, side by side, as an animation.

GIF and animated PNG are written by Pillow, which tensorboard brings; MP4 by imageio's ffmpeg, an extra.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rlstm.core.errors import missing_extra
from rlstm.core.files import write_atomically
from rlstm.inspection.playback import Episode, Frame, Moment

Pixels = NDArray[np.uint8]

FORMATS = (".gif", ".png", ".mp4")
"""Endings of files that ``write_film`` writes."""

_PAPER, _INK, _WARNING, _QUIET = (255, 255, 255), (25, 25, 25), (190, 50, 30), (120, 120, 120)
_LEAST_WIDTH, _MOST_WIDTH, _LINE, _MARGIN = 320, 640, 18, 8
_LAST_FRAME_SECONDS = 1.0


class Picture(NamedTuple):
    """What is shown at once, and for how long."""

    pixels: Pixels  # (height, width, 3)
    seconds: float


def describe(moment: Moment, step: int) -> list[str]:
    """Return lines on a moment: what was done and thought, and what came of it."""
    done = np.array2string(np.asarray(moment.action), precision=3, separator=", ", suppress_small=True)
    share = ""
    if len(moment.probabilities) == 1 and moment.stored_action.dim() == 1:
        share = f" (p {float(moment.probabilities[0][int(moment.stored_action)]):.2f})"
    first = f"step {step}   action {done}{share}   value {moment.value:.3g}"
    return [first, f"reward {moment.reward:.4g}   return {moment.total:.4g}"]


def film_episode(episode: Episode, title: str, fps: float, draw_text: Callable[[str], Pixels]) -> list[Picture]:
    """Return a picture a step of an episode, and one of its end, which stays longer.

    Args:
        episode: With frames.
        title: The line above.
        fps: Pictures a second.
        draw_text: Draws frames that are texts.
    """
    pictures = []
    for step, moment in enumerate(episode.moments):
        note = "memory reset" if moment.is_first else "new episode" if moment.episode_start else ""
        pixels = _as_pixels(moment.frame, draw_text)
        pictures.append(Picture(_compose(pixels, title, describe(moment, step), note), 1 / fps))
    end = "terminated" if episode.terminated else "cut off"
    end = {0.0: "failed", 1.0: "succeeded"}.get(episode.success, end)
    lines = [f"{end} after {len(episode.moments)} steps", f"return {episode.total:.4g}"]
    pixels = _as_pixels(episode.last_frame, draw_text)
    return [*pictures, Picture(_compose(pixels, title, lines, ""), _LAST_FRAME_SECONDS)]


def side_by_side(films: Sequence[Sequence[Picture]]) -> list[Picture]:
    """Return films shown at once; one that is shorter stays at its end. Wide ones lie one above the other."""
    length = max(map(len, films))
    axis = 0 if all(one.pixels.shape[1] > 2 * one.pixels.shape[0] for film in films for one in film) else 1
    joined = []
    for index in range(length):
        shown = [film[min(index, len(film) - 1)] for film in films]
        height, width = (max(one.pixels.shape[side] for one in shown) for side in (0, 1))
        padded = [_pad(one.pixels, *((None, width) if axis == 0 else (height, None))) for one in shown]
        ends = index == length - 1
        joined.append(Picture(np.concatenate(padded, axis), max(one.seconds for one in shown) if ends else 0.0))
    seconds = min(one.seconds for film in films for one in film)
    return [one._replace(seconds=one.seconds or seconds) for one in joined]


def write_film(pictures: Sequence[Picture], path: str | os.PathLike[str]) -> Path:
    """Write an animation, whole or not at all; the ending says how.

    Raises:
        ValueError: If the ending is none of ``FORMATS``.
        MissingExtraError: If MP4 is asked for and imageio's ffmpeg is not installed.
    """
    path = Path(path)
    check_film(path)
    if path.suffix.lower() == ".mp4":
        _write_mp4(pictures, path)
    else:
        write_atomically(path, encode_film(pictures, "GIF" if path.suffix.lower() == ".gif" else "PNG"))
    return path


def check_film(path: Path) -> None:
    """Refuse a file that can't be written, as ``write_film`` does, before anything is played."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"The film is to be {path}; its name must end with one of {', '.join(FORMATS)}.")
    if path.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise missing_extra("An MP4 film", "imageio-ffmpeg", "video")


def encode_film(pictures: Sequence[Picture], kind: str = "GIF") -> bytes:
    """Return an animation as the bytes of a GIF or a PNG; all pictures have the size of the largest."""
    images = [Image.fromarray(one) for one in _same_size([picture.pixels for picture in pictures])]
    if kind == "GIF":
        palette = _palette([np.asarray(image) for image in images])
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [max(20, round(1000 * picture.seconds)) for picture in pictures]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0}
    images[0].save(buffer, kind, **options)
    return buffer.getvalue()


def _palette(images: Sequence[Pixels]) -> Image.Image:
    """Return one palette for all pictures, so that a colour stays what it is: that of some of them, with the last."""
    chosen = [*images[:: max(1, len(images) // 12)], images[-1]]
    together = np.concatenate([image[::2, ::2] for image in chosen])
    return Image.fromarray(together).quantize(256, dither=Image.Dither.NONE)


def _write_mp4(pictures: Sequence[Picture], path: Path) -> None:
    import imageio_ffmpeg

    frames = _same_size([picture.pixels for picture in pictures], multiple=2)
    shortest = min(picture.seconds for picture in pictures)
    partial = path.with_name(f".{path.name}.partial.mp4")
    size = frames[0].shape[1], frames[0].shape[0]
    writer = imageio_ffmpeg.write_frames(str(partial), size, fps=1 / shortest, macro_block_size=2)
    writer.send(None)
    for frame, picture in zip(frames, pictures, strict=True):
        for _ in range(max(1, round(picture.seconds / shortest))):
            writer.send(np.ascontiguousarray(frame))
    writer.close()
    partial.replace(path)


def _as_pixels(frame: Frame, draw_text: Callable[[str], Pixels]) -> Pixels:
    """Return a frame as an image of sensible width: small ones enlarged by whole numbers, large ones thinned."""
    if isinstance(frame, str):
        frame = draw_text(frame)
    pixels = np.asarray(frame)
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError(f"The env's render gives an array {pixels.shape}; it must give an image (height, width, 3).")
    pixels = pixels[:, :, :3].astype(np.uint8)
    width = pixels.shape[1]
    if width < _LEAST_WIDTH:
        times = math.ceil(_LEAST_WIDTH / width)
        return pixels.repeat(times, 0).repeat(times, 1)
    if width > _MOST_WIDTH:
        height = round(pixels.shape[0] * _MOST_WIDTH / width)
        return np.asarray(Image.fromarray(pixels).resize((_MOST_WIDTH, height), Image.Resampling.BILINEAR))
    return pixels


def _compose(pixels: Pixels, title: str, lines: Sequence[str], note: str) -> Pixels:
    height, width = pixels.shape[:2]
    top, bottom = _LINE + _MARGIN, _LINE * len(lines) + _MARGIN
    picture = Image.new("RGB", (width + 2 * _MARGIN, top + height + bottom), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    pen.text((_MARGIN, 4), title, fill=_QUIET, font=font)
    if note:
        pen.text((width + _MARGIN, 4), note, fill=_WARNING, font=font, anchor="ra")
    picture.paste(Image.fromarray(pixels), (_MARGIN, top))
    for row, line in enumerate(lines):
        pen.text((_MARGIN, top + height + 4 + row * _LINE), line, fill=_INK, font=font)
    return np.asarray(picture)


def _pad(pixels: Pixels, height: int | None, width: int | None) -> Pixels:
    """Return an image on white, of these sides or its own."""
    size = pixels.shape[0] if height is None else height, pixels.shape[1] if width is None else width
    padded = np.full((*size, 3), 255, dtype=np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded


def _same_size(images: Sequence[Pixels], multiple: int = 1) -> list[Pixels]:
    height, width = (-(-max(one.shape[axis] for one in images) // multiple) * multiple for axis in (0, 1))
    return [_pad(one, height, width) for one in images]
