"""The tables of learning results: what a line says, where a table lands, POPGym's cells, and README's short table."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def row(seed, reached, final, solved, experiment="tmaze", total_steps="300000"):
    seconds = "12.0" if reached else ""
    names = {"experiment": experiment, "seed": seed, "reached_at": reached, "seconds_to_criterion": seconds}
    return {**names, "final": final, "solved": solved, "total_steps": total_steps}


def test_intervals_begin_with_three_seeds(scripts) -> None:
    rows = [row(str(seed), "1000", str(1 - seed / 10), "True") for seed in range(3)]
    assert "| 0.95 |" in scripts.learning_tables.table(rows[:2], "T-maze")
    assert "| 0.9 [0.8, 1] |" in scripts.learning_tables.table(rows, "T-maze")


def test_experiments_of_one_title_share_a_line(scripts) -> None:
    rows = [
        row("0", "3000", "0.9", "True", "memory-length-7", "80000"),
        row("0", "", "0.1", "False", "memory-length-30", "310000"),
        row("0", "1000", "0.8", "True", "memory-length-1", "20000"),
    ]
    *_, rule, line = scripts.learning_tables.table(rows, "bsuite").splitlines()
    assert set(rule) == {"|", "-"}
    assert line.startswith("| Memory lengths 1 to 100 (training return ≥ 0.25) | 2 of 3 |")
    assert "| 0.1 | 2,000 | 12 s | 20,000 to 310,000 |" in line


def test_the_table_lists_failures_as_failures(scripts) -> None:
    rows = [row("0", "90112", "1", "True"), row("1", "", "0.5", "False"), row("2", "90112", "0.6", "False")]
    line = scripts.learning_tables.table(rows, "T-maze").splitlines()[-1]
    assert line.startswith("| Corridor 20, LSTM (success ≥ 0.99) | 1 of 3 |")
    assert "| 0.5 | 90,112 | 12 s | 300,000 |" in line
    assert "| never |" in scripts.learning_tables.table(rows[1:2], "T-maze")
    assert scripts.learning_tables.table([], "T-maze") == ""


def test_a_table_has_the_command_that_repeats_it(scripts) -> None:
    rows = [row(seed, "1000", "1", "True", "passive-100") for seed in ("2", "0")]
    heading = scripts.learning_tables.table(rows, "Passive T-maze").splitlines()[0]
    command = "python -m scripts.experiments.reproduce --group 'Passive T-maze' --seeds 0 2 --again"
    assert heading.endswith(f"`{command}`")


def test_a_table_lands_in_the_section_of_its_group(scripts, tmp_path, monkeypatch) -> None:
    tables, page = scripts.learning_tables, tmp_path / "RESULTS.md"
    sections = scripts.catalogue.SECTIONS
    page.write_text(
        "".join(f"# {name}\n{begin}\nold\n{end}\n" for name in sections for begin, end in [tables.marks(name)])
    )
    monkeypatch.setattr(tables, "PAGE", page)
    tables.write_page([row("0", "1000", "1", "True"), row("0", "1000", "480", "True", "cartpole-no-vel")])
    parts = dict(re.findall(r"^# (\w+)\n(.*?)(?=^# |\Z)", page.read_text(), re.MULTILINE | re.DOTALL))
    assert "old" not in page.read_text()
    assert [name for name, part in parts.items() if "**T-maze**" in part] == ["remember"]
    assert [name for name, part in parts.items() if "**Hidden velocities**" in part] == ["hidden"]


def test_every_section_stands_in_the_page_with_its_marks(scripts) -> None:
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name, heading in scripts.catalogue.SECTIONS.items():
        assert all(mark in parts[heading] for mark in scripts.learning_tables.marks(name))
    assert {group.section for group in scripts.catalogue.GROUPS.values()} == set(scripts.catalogue.SECTIONS)


def popgym(scripts, title, published="", name=None):
    experiment = scripts.catalogue.Experiment("POPGym", title, "popgym", (), "return", 0.0, published)
    return {name or f"popgym-{title.lower().replace(' ', '-')}": experiment}


def cells_of(scripts, experiments, finals):
    rows = [
        row(str(seed), "", final, "False", name) for name, values in finals.items() for seed, final in enumerate(values)
    ]
    return scripts.popgym_table.cells_of(experiments, rows)


@pytest.mark.parametrize(
    ("text", "found"),
    [("-.470 (.191)", (-0.47, 0.191)), (".890", (0.89, None)), ("(1.000)", (None, 1.0)), ("", (None, None))],
)
def test_published_returns_are_read(scripts, text, found) -> None:
    assert scripts.popgym_table.published(text) == found


def test_published_returns_of_another_form_are_refused(scripts) -> None:
    with pytest.raises(ValueError, match=r"'\.895 ± \.099' must be a return"):
        scripts.popgym_table.published(".895 ± .099")
    with pytest.raises(ValueError, match="'RepeatFirst' must end in one of Easy, Medium, Hard"):
        cells_of(scripts, popgym(scripts, "RepeatFirst"), {})


def test_popgym_has_a_line_a_task_and_bold_means_at_or_above_the_gru(scripts) -> None:
    experiments = {
        **popgym(scripts, "Recall Hard", "-.470 (.191)"),
        **popgym(scripts, "Recall Easy", ".700 (.700)"),
        **popgym(scripts, "Recall Medium", ".500 (.600)"),
        **popgym(scripts, "Pole Medium", ""),
        **popgym(scripts, "Pole Easy", ".100"),
    }
    finals = {
        "popgym-recall-easy": ["0.7", "0.7", "0.7"],  # Their mean is below 0.7 in the last digit.
        "popgym-recall-hard": ["-0.4", "-0.5", "-0.3"],
        "popgym-recall-medium": ["0.4", "0.5"],
        "popgym-pole-medium": ["0.25"],
    }
    *lines, _, counts = scripts.popgym_table.table(cells_of(scripts, experiments, finals)).splitlines()
    assert lines[0].endswith("| Easy | Medium | Hard |")
    assert lines[2:] == [
        "| Recall | **0.700**; 0.700 (0.700) | 0.450; 0.500 (0.600) | **-0.400**; -0.470 (0.191) |",
        "| Pole |  | 0.250 |  |",
    ]
    assert counts == (
        "At or above the GRU at 3 million steps: 2 of 3 cells. At or above the best of 13 models at 15 million steps: "
        "1 of 3 cells. Seeds a cell: 1 to 3. Seeds on both sides of the GRU's mark, so many at or above: Recall Hard "
        "(2 of 3), Recall Medium (1 of 2)."
    )
    assert scripts.popgym_table.table({}) == ""


def test_best_evaluations_are_counted_beside_final_ones(scripts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scripts.learning_curves, "CURVES", tmp_path)
    for seed, values in ((0, (0.1, 0.4, 0.2)), (1, (0.2, 0.2, 0.0)), (7, (9.0,))):  # There is no row of seed 7.
        points = [
            {"seed": seed, "step": step, "eval_return": value, "eval_success": "", "training_return": ""}
            for step, value in enumerate(values)
        ]
        scripts.learning_curves.store("recall-easy", points)
    cells = cells_of(scripts, popgym(scripts, "Recall Easy", ".25 (.3)", "recall-easy"), {"recall-easy": ["0.2", "0"]})
    assert sorted(cells["Recall", "Easy"].bests) == [0.2, 0.4]
    assert scripts.popgym_table.reached(cells.values()) == ("0 of 1", "0 of 1")
    assert scripts.popgym_table.reached(cells.values(), at_best=True) == ("1 of 1", "1 of 1")
    assert "by the best epoch: 1 of 1 and 1 of 1." in scripts.popgym_table.table(cells)


def test_the_last_experiment_of_a_title_that_has_rows_stands(scripts) -> None:
    experiments = popgym(scripts, "Recall Easy", ".1", "recall-easy") | popgym(scripts, "Recall Easy", ".1")
    old = cells_of(scripts, experiments, {"recall-easy": ["0"]})
    both = cells_of(scripts, experiments, {"recall-easy": ["0"], "popgym-recall-easy": ["1"]})
    assert [cells["Recall", "Easy"].finals for cells in (old, both)] == [[0.0], [1.0]]


def test_popgym_of_the_catalogue_makes_a_table(scripts) -> None:
    experiments = {name: one for name, one in scripts.catalogue.EXPERIMENTS.items() if one.group == "POPGym"}
    cells = cells_of(scripts, experiments, {name: ["0.5"] for name in experiments})
    assert len(cells) == len({one.title for one in experiments.values()})
    text = scripts.learning_tables.table([row("0", "", "0.5", "False", name) for name in experiments], "POPGym")
    assert text.count("0.500") >= len(cells)


def test_the_short_table_has_eight_facts_that_lead_to_sections(scripts) -> None:
    facts = [fact() for fact in scripts.short_table.FACTS]
    assert len(facts) == 8
    headings = re.findall(r"^## (.*)", (ROOT / "RESULTS.md").read_text(encoding="utf-8"), re.MULTILINE)
    questions = [re.match(r"\[(.*)\]\(RESULTS\.md#", fact[0])[1] for fact in facts]
    assert set(questions) <= set(headings)
    assert len(set(questions)) >= 5
    link = scripts.short_table.link("Does it act on what it can't see?")
    assert link.endswith("(RESULTS.md#does-it-act-on-what-it-cant-see)")


def write(path, rows) -> None:
    """Write rows of equal columns as CSV."""
    lines = [",".join(rows[0]), *(",".join(map(str, one.values())) for one in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_the_short_table_counts_what_the_rows_say_and_leaves_out_what_they_do_not(
    scripts, tmp_path, monkeypatch
) -> None:
    short, readme = scripts.short_table, tmp_path / "README.md"
    readme.write_text(f"{short.BEGIN}\nold\n{short.END}\n")
    monkeypatch.setattr(short, "README", readme)
    monkeypatch.setattr(short, "RESULTS", tmp_path)
    write(
        tmp_path / "learning.csv",
        [
            *(row(seed, "90", "1", "True", "tmaze-100") for seed in range(2)),
            *(row(seed, "", "0.5", "False", "tmaze-1000") for seed in range(3)),
        ],
    )
    write(
        tmp_path / "learning_to_learn.csv",
        [
            {"task": "bandit", "n": n, "k": 5, "strategy": name, "mean": mean, "training": how, "seed": s, "trials": t}
            for n, name, mean, how, s, t in (
                *((10, "ucb1", 6.6, "", 1000000, 10000), (10, "ppo", 6.5, "rlstm train ppo", 1000000, 10000)),
                (10, "teacher", 6.58, "rlstm train teacher", 1000000, 10000),
                (10, "ppo", 9.9, "rlstm train ppo", 1, 50),
                (100, "ucb1", 78.0, "", 1000000, 10000),
            )
        ],
    )
    write(
        tmp_path / "double_pole.csv",
        [
            {
                "fitness": fitness,
                "strategy": name,
                "network": "",
                "settings": "",
                "evaluations": count,
                "solved": solved,
            }
            for fitness, name, count, solved, runs in (
                ("damping", "esp", 900, True, 50),
                ("damping", "snes", 800, True, 50),
                ("damping", "cma-es", 100, True, 49),
                ("damping", "cosyne", 200, False, 50),
                ("standard", "open-es", 300, True, 50),
            )
            for _ in range(runs)
        ],
    )
    short.write_page()
    lines = readme.read_text().splitlines()[3:-1]
    assert [re.sub(r"^\| \[.*?\)", "|", line) for line in lines] == [
        "| | T-maze, corridors of 100 and 1000 (Bakker 2001) | 2 of 2 seeds, in 12 s of one thread; 1000 begun at 100: "
        "0 of 3 | PPO, LSTM |",
        "| | Two poles without velocities, damping fitness | 800 evaluations in the mean, 50 of 50 runs; published "
        "from 3,043 on | SNES |",
        "| | Bandits of so many pulls, arms; UCB1 on the same in brackets | 10, 5: 6.50 (6.60) | PPO, LSTM |",
    ]


def test_bandits_are_those_on_which_all_were_measured(scripts) -> None:
    learning = scripts.learning_to_learn
    assert {"seed": str(learning.SEED), "trials": str(learning.NUM_TRIALS)} == scripts.short_table.HELD_OUT
