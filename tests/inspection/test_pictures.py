"""Claims about `rlstm.inspection.pictures`: films have every step, sizes that fit, and times that were asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from rlstm.core.errors import MissingExtraError
from rlstm.inspection.pictures import Picture, check_film, describe, encode_film, film_episode, side_by_side, write_film
from rlstm.inspection.playback import Episode, Moment
from rlstm.policies.inputs import PolicyInputs


def moment(frame=None, **changes):
    made = {
        "frame": np.full((20, 30, 3), 128, np.uint8) if frame is None else frame,
        "observation": np.zeros(1),
        "inputs": PolicyInputs(torch.zeros(1, 1)),
        "is_first": False,
        "episode_start": False,
        "action": np.int64(2),
        "stored_action": torch.tensor([1]),
        "parameters": np.zeros(2),
        "probabilities": [np.array([0.25, 0.75])],
        "value": 1.25,
        "memory": {},
        "reward": -0.5,
        "total": 3.0,
    }
    return Moment(**{**made, **changes})


def picture(colour, seconds=0.1, size=(4, 6)):
    return Picture(np.full((*size, 3), colour, np.uint8), seconds)


def test_lines_below_a_frame_say_what_was_done_thought_and_brought():
    lines = describe(moment(), 7)
    assert lines == ["step 7   action 2 (p 0.75)   value 1.25", "reward -0.5   return 3"]
    continuous = moment(action=np.array([0.12345, -3.0]), stored_action=torch.zeros(1, 2), probabilities=[])
    assert describe(continuous, 0)[0] == "step 0   action [ 0.123, -3.   ]   value 1.25"


def test_a_film_has_a_picture_a_step_and_a_longer_one_at_the_end():
    episode = Episode(0, [moment(), moment(is_first=True)], np.zeros((20, 30, 3), np.uint8), True)
    film = film_episode(episode, "title", 20.0, lambda text: pytest.fail("no text"))
    assert [one.seconds for one in film] == [0.05, 0.05, 1.0]
    assert len({one.pixels.shape[1] for one in film}) == 1
    assert film[0].pixels.shape[1] >= 320  # Small frames are enlarged.
    red = [((one.pixels[:24, :, 0] > 150) & (one.pixels[:24, :, 1] < 120)).any() for one in film]
    assert red == [False, True, False]  # The note on the reset.


def test_texts_are_drawn_and_large_images_made_smaller():
    drawn = []

    def draw(text):
        drawn.append(text)
        return np.zeros((10, 1000, 3), np.uint8)

    film = film_episode(Episode(0, [moment("hello")], "bye"), "", 10.0, draw)
    assert drawn == ["hello", "bye"]
    assert max(one.pixels.shape[1] for one in film) <= 660


def test_films_side_by_side_wait_at_their_ends():
    left, right = [picture(1), picture(2, 1.0)], [picture(3), picture(4), picture(5), picture(6, 1.0, (8, 6))]
    joined = side_by_side([left, right])
    assert [one.pixels[0, 0, 0] for one in joined] == [1, 2, 2, 2]
    assert [one.pixels[0, 6, 0] for one in joined] == [3, 4, 5, 6]
    assert [one.seconds for one in joined] == [0.1, 0.1, 0.1, 1.0]
    assert joined[-1].pixels.shape == (8, 12, 3)


def test_wide_films_lie_one_above_the_other():
    joined = side_by_side([[picture(1, size=(4, 10))], [picture(2, size=(4, 12))]])
    assert joined[0].pixels.shape == (8, 12, 3)
    assert joined[0].pixels[[0, 4], 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_a_file_holds_all_pictures_and_their_times(tmp_path, ending):
    pictures = [picture(10), picture(200, 0.5), picture(90, 0.25, (6, 8))]
    path = write_film(pictures, tmp_path / f"film{ending}")
    with Image.open(path) as image:
        assert (image.n_frames, image.size) == (3, (8, 6))
        times, colours = [], []
        for index in range(3):
            image.seek(index)
            times.append(image.info["duration"])
            colours.append(image.convert("RGB").getpixel((0, 0))[0])
    assert times == [100, 500, 250]
    assert colours == pytest.approx([10, 200, 90], abs=8)
    assert not list(tmp_path.glob(".*"))


def test_other_endings_and_missing_packages_are_told_before_anything_is_played(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end with one of \.gif, \.png, \.mp4"):
        check_film(tmp_path / "film.avi")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"imageio-ffmpeg.*pip install 'rlstm-torch\[video\]'"):
        check_film(tmp_path / "film.mp4")


def test_a_frame_that_is_no_image_is_told():
    with pytest.raises(ValueError, match=r"render gives an array \(4,\)"):
        film_episode(Episode(0, [moment(np.zeros(4))], None), "", 10.0, lambda text: np.zeros((1, 1, 3), np.uint8))


def test_a_gif_in_memory_is_what_a_file_would_hold(tmp_path):
    pictures = [picture(10), picture(200)]
    write_film(pictures, tmp_path / "film.gif")
    assert encode_film(pictures) == (tmp_path / "film.gif").read_bytes()
    assert Image.open(io.BytesIO(encode_film(pictures))).n_frames == 2
