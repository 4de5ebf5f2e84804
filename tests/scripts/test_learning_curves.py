"""Learning curves as small files, and the picture that is drawn from them."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest


def progress(count, **others):
    """Rows of a run's progress, of which every second was evaluated."""
    rows = []
    for step in range(count):
        values = {"eval/mean_reward": f"{step / 3}", "eval/success_rate": "0.98765", "rollout/ep_rew_mean": "-12345.6"}
        values = {name: others.get(name, value) if step % 2 else "" for name, value in values.items()}
        rows.append({"step": str(1000 * step), **values})
    return rows


@pytest.fixture
def curves(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(scripts.learning_curves, "CURVES", tmp_path / "curves")
    return scripts.learning_curves


def test_an_evaluation_is_a_point_with_four_digits_after_the_steps_of_earlier_stages(curves) -> None:
    points = curves.evaluations(progress(4), 500_000, 7)
    assert points == [
        {
            "seed": 7,
            "step": 500_000 + step,
            "eval_return": value,
            "eval_success": "0.9877",
            "training_return": "-1.235e+04",
        }
        for step, value in ((1000, "0.3333"), (3000, "1"))
    ]


def test_a_metric_that_is_not_known_is_empty(curves) -> None:
    (point,) = curves.evaluations(progress(2, **{"eval/success_rate": ""}), 0, 0)
    assert point["eval_success"] == ""
    (point,) = curves.evaluations([{"step": "5", "eval/mean_reward": "1"}], 0, 0)
    assert (point["eval_success"], point["training_return"]) == ("", "")


def test_long_curves_are_thinned_and_keep_both_ends(curves) -> None:
    points = curves.evaluations(progress(999), 0, 0)
    steps = np.array([point["step"] for point in points])
    assert len(steps) == curves.MOST_POINTS == 50
    assert (steps[0], steps[-1]) == (1000, 997_000)
    assert np.diff(steps).max() <= 1.2 * np.diff(steps).min()
    assert len(curves.evaluations(progress(60), 0, 0)) == 30
    assert curves.evaluations(progress(1), 0, 0) == []


def test_curves_are_read_as_they_were_stored_seed_by_seed(curves) -> None:
    for seed in (10, 2, 10):
        curves.store("tmaze", curves.evaluations(progress(6), 0, seed))
    curves.store("tmaze", curves.evaluations(progress(4), 0, 2))
    found = curves.read("tmaze", "eval_return")
    assert [steps.tolist() for steps, _ in found] == [[1000, 3000], [1000, 3000, 5000]]
    np.testing.assert_allclose(found[0][1], [0.3333, 1.0])
    assert curves.read("never-run", "eval_return") == []


@pytest.fixture
def picture(scripts, curves, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    module = scripts.learning_picture
    monkeypatch.setattr(module, "PICTURE", tmp_path / "learning.svg")
    monkeypatch.setattr(module, "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n")
    return module


def make_up(curves, name, seeds) -> None:
    for seed in range(seeds):
        rows = [
            {"step": str(step), "eval/mean_reward": str(seed + step / 1e5), "eval/success_rate": str(step / 1e5)}
            for step in range(0, 100_000, 20_000)
        ]
        curves.store(name, curves.evaluations(rows, 0, seed))


def texts(path) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.parse(path).iter() if node.tag.endswith("text")]


def test_the_picture_has_a_panel_for_each_experiment_with_a_curve(picture, curves, tmp_path) -> None:
    for name, seeds in (("tmaze", 3), ("tmaze-none", 1), ("cartpole-no-vel", 2), ("popgym-autoencode-easy", 3)):
        make_up(curves, name, seeds)
    picture.write_page()
    found = texts(picture.PICTURE)
    assert found.count("environment steps") == 3
    assert {"T-maze, corridor 20", "CartPole without velocities", "POPGym Autoencode"} <= set(found)
    assert {"LSTM (3 seeds)", "no memory (1 seed)", "LSTM (2 seeds)", "Easy (3 seeds)"} <= set(found)
    assert "success rate" in found
    assert found.count("mean return") == 2
    assert "Passive T-maze" not in found
    page = (tmp_path / "RESULTS.md").read_text()
    assert "(docs/images/learning.svg)" in page
    assert "old" not in page
    first = picture.PICTURE.read_bytes()
    picture.write_page()
    assert picture.PICTURE.read_bytes() == first


def test_the_picture_brings_its_own_ground(picture, curves) -> None:
    """Dark text on white reads the same on a dark page."""
    make_up(curves, "tmaze", 3)
    picture.draw(picture.PICTURE)
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff', picture.PICTURE.read_text())


def test_without_curves_nothing_is_written(picture, tmp_path, capsys) -> None:
    picture.write_page()
    assert "run an experiment first" in capsys.readouterr().out
    assert not picture.PICTURE.exists()
    assert "old" in (tmp_path / "RESULTS.md").read_text()


def test_the_band_is_the_interval_of_the_mean_from_three_seeds_on(picture) -> None:
    values = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [5.0, 1.0]])
    mean, band = picture.mean_with_interval(values)
    np.testing.assert_allclose(mean, [2.0, 1.0])
    assert 0.0 < band[0][0] < 1.0
    assert 3.0 < band[1][0] < 5.0
    assert band[0][1] == band[1][1] == 1.0
    assert picture.mean_with_interval(values[:2])[1] is None


def test_panels_show_what_their_experiments_are_judged_by(scripts) -> None:
    measures = {"success": "eval_success", "return": "eval_return"}
    experiments = scripts.catalogue.EXPERIMENTS
    assert 6 <= len(scripts.learning_picture.PANELS) <= 8
    for panel in scripts.learning_picture.PANELS:
        assert {measures[experiments[name].measure] for name in panel.lines.values()} == {panel.column}
