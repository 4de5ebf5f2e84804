"""``rlstm watch`` plays an agent, live or into a film."""

from pathlib import Path

import pytest
from PIL import Image


def test_a_film_shows_the_agent_with_and_without_its_memory(rlstm, trained: Path) -> None:
    result = rlstm(f"watch {trained} --out film.gif --episodes 2 --beside ablated --max-steps 5 --json")
    assert result.json["out"] == "film.gif"
    assert [len(one) for one in result.json["returns"]] == [2, 2]
    assert result.json["titles"][1].endswith("memory reset at every step")
    with Image.open("film.gif") as image:
        assert image.n_frames >= 4


def test_two_runs_stand_side_by_side(rlstm, trained: Path) -> None:
    result = rlstm(f"watch {trained} --beside {trained} --out film.png --episodes 1 --max-steps 3")
    assert result.code == 0
    assert "film" in result.out
    assert Path("film.png").exists()


def test_without_a_file_a_text_is_shown_live(rlstm, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    result = rlstm(f"watch {trained} --episodes 1 --fps 10000 --max-steps 4 --seed 1")
    assert result.code == 0
    assert "@" in result.err
    assert "memory reset" in result.err
    assert "step 0   action" in result.err
    assert "returns" in result.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--episodes 0", "--episodes is 0; it must be at least 1."),
        ("--fps 0", "--fps is 0; it must be above 0."),
        ("--beside ablated", "--beside needs --out"),
        ("--out film.avi", "must end with one of .gif, .png, .mp4"),
        ("--out missing/film.gif", "there is no folder"),
    ],
)
def test_wrong_usage_is_told_and_leaves_no_file(rlstm, trained: Path, words: str, told: str) -> None:
    result = rlstm(f"watch {trained} {words}")
    assert result.code == 2
    assert told in result.err
    assert not list(Path().glob("*.avi"))


def test_an_env_that_can_not_draw_says_what_it_offers(rlstm, train, my_env) -> None:
    assert train("--env my_env:My-v0 --run-dir own").code == 0
    result = rlstm("watch own --out film.gif")
    assert result.code == 1
    assert "it offers no render mode" in result.err
    assert not Path("film.gif").exists()
