"""The figure of curves: what stands in it, its formats, and what is refused before anything is written."""

import sys

import pytest

from rlstm.api.curves import read_curves
from rlstm.api.figures import COLOURS, check_output, draw_curves
from rlstm.core.errors import FigureError, MissingExtraError
from rlstm.training.config import ConfigError
from tests.kit import write_run

BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture
def curves(tmp_path):
    """Two groups: three seeds of an LSTM, one without memory."""
    for seed in range(3):
        write_run(tmp_path / "lstm" / str(seed), seed, {10_000: seed, 1_000_000: 3.0 + seed / 4})
    write_run(tmp_path / "none", 0, {10_000: 1.0, 1_000_000: 1.5}, cell="none")
    return read_curves([tmp_path])


def test_a_figure_says_what_it_shows(curves, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    draw_curves(curves, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    said = (
        *("rlstm/TMaze-v0", "environment steps", "mean return of evaluations", "400k", "1M"),
        *("cell=lstm (3 seeds)", "cell=none (1 seed)", "best without memory 1.95", "best possible 4"),
        "IQM over seeds, 95 % bootstrap interval",
    )
    assert [words for words in said if f">{words}<" not in text] == []
    assert text.count("FillBetweenPolyCollection") == 1  # A single seed has no band.
    assert all(colour in text for colour in COLOURS[:2])
    assert COLOURS[2] not in text


@pytest.mark.parametrize("ending", BEGINS)
def test_each_format_is_written_the_same_each_time(curves, tmp_path, ending: str) -> None:
    pytest.importorskip("matplotlib")
    one, other = tmp_path / f"one{ending}", tmp_path / f"other{ending.upper()}"
    one.write_text("an earlier one")
    draw_curves(curves, one)
    draw_curves(curves, other)
    assert one.read_bytes().startswith(BEGINS[ending])
    assert one.read_bytes() == other.read_bytes()


def test_a_figure_needs_matplotlib_and_says_how_to_get_it(curves, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MissingExtraError, match=r"pip install 'rlstm-torch\[plot\]'"):
        draw_curves(curves, tmp_path / "curves.png")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_can_not_be_written_is_told(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"curves.jpg' has no known format; .* .png, .svg, .pdf"):
        check_output("curves.jpg")
    with pytest.raises(FigureError, match=r"the folder .*missing doesn't exist"):
        check_output(tmp_path / "missing" / "curves.png")


def test_nothing_is_left_of_a_figure_that_fails(curves, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "curves.png").mkdir()
    with pytest.raises(FigureError, match="can't be written"):
        draw_curves(curves, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir() if path.is_file() or "tmp" in path.name] == []
