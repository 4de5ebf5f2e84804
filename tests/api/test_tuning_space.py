"""What a search tries: the spaces beside the config fields, what a user says of them, and the files that hold them."""

import tomllib
from pathlib import Path

import pytest

from rlstm.agents import AGENTS, load_agent_config
from rlstm.api.configs import config_from_layers, make_config
from rlstm.api.tuning.finals import Finalist, compare, finalists, planned_runs
from rlstm.api.tuning.plan import Options, Plan, make_plan
from rlstm.api.tuning.preset_file import preset_text
from rlstm.api.tuning.records import Record
from rlstm.api.tuning.space import make_space, read_given
from rlstm.core.errors import UnknownNameError
from rlstm.core.searched import Among, Choices, Span, Within, declared, parse_tried
from rlstm.training.config import ConfigError, setting_fields
from rlstm.training.presets import PRESETS


@pytest.mark.parametrize(
    ("text", "hint", "tried"),
    [
        ("1e-4..1e-2", float, Span(1e-4, 1e-2, log=True)),
        ("1e-4..1e-2:linear", float, Span(1e-4, 1e-2)),
        ("0.9..0.99", float, Span(0.9, 0.99)),
        ("16..64:log", int, Span(16, 64, log=True)),
        ("-1..1", float, Span(-1, 1)),
        ("lstm,gru", str, Among("lstm", "gru")),
        ("none,16,64", int | None, Among(None, 16, 64)),
        ("true,false", bool, Among(True, False)),
        ("none,64,64x32", tuple[int, ...], Among((), (64,), (64, 32))),
        ("1e3", int, Among(1000)),
    ],
)
def test_what_is_tried_is_read_and_written(text: str, hint: object, tried: object) -> None:
    assert parse_tried(text, hint) == tried
    assert parse_tried(str(tried), hint) == tried


def test_ranges_of_no_numbers_are_refused() -> None:
    for text in ("1..a", "2..1", "1..1", "0..1:log", "1..10:loud", "lstm,,gru", "", "1..inf"):
        with pytest.raises(ValueError, match=f"is searched in '{text}'"):
            parse_tried(text, float)


def test_a_span_is_widened_to_what_it_can_hold() -> None:
    assert Within(0.1, 1.0).including(3.0) == Span(0.1, 3.0)
    assert Within(0.1, 1.0, log=True).including(0.0) == Span(0.0, 1.0)
    assert Within(0.1, 1.0).including(None) == Span(0.1, 1.0)
    assert Among(1, 2).including(None) == Choices((1, 2, None))
    assert Among(1, 2).including(2) == Among(1, 2)


@pytest.mark.parametrize("agent", sorted(set(AGENTS) - {"random"}))
def test_every_declared_value_fits_its_field(agent: str) -> None:
    """The first and the last value of every declared space build an experiment that trains."""
    for name, tried in make_space(make_config(agent), (), {}).items():
        for value in tried.values if isinstance(tried, Choices) else (tried.low, tried.high):
            assert make_config(agent, **{name: value}).settings()[name] == value


def test_sequences_are_whole_minibatches_everywhere_in_the_space() -> None:
    space = make_space(make_config("ppo"), (), {})
    assert all(envs % parts == 0 for envs in space["num_envs"].values for parts in space["num_minibatches"].values)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_space_holds_every_preset(name: str) -> None:
    config = make_config(PRESETS[name].agent, name)
    assert make_plan(config, name, (), {}, Options()).tries_base or config.agent == "random"


def test_agents_have_their_own_spaces_of_shared_settings() -> None:
    ppo, evolino = (make_space(make_config(agent), (), {}) for agent in ("ppo", "evolino"))
    assert (ppo["hidden_size"], evolino["hidden_size"]) == (Among(32, 64, 128, 256), Among(4, 8, 16, 32))
    assert "memory.bptt_horizon" in ppo
    assert "memory.bptt_horizon" not in evolino


def test_flags_fix_and_search_replaces_and_only_leaves_out() -> None:
    config = make_config("ppo", gamma=0.9)
    space = make_space(config, {"gamma"}, read_given(["cell=gru,elman", "vf-coef=0.1..1", "--popart=true"]))
    assert "gamma" not in space
    assert (space["cell"], space["vf_coef"]) == (Among("gru", "elman"), Span(0.1, 1.0, log=True))
    assert space["popart"] == Among(True)
    only = make_space(config, (), read_given(["cell=gru,elman", "learning_rate"]), only=True)
    assert only == {"cell": Among("gru", "elman"), "learning_rate": Span(1e-4, 1e-2, log=True)}
    assert make_space(make_config("ppo", learning_rate=0.1), (), {})["learning_rate"].high == 0.1
    assert make_space(config, (), {"hidden_size": [4, 8]}, only=True) == {"hidden_size": Among(4, 8)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["learnin_rate=1e-4..1e-2"], "Did you mean 'learning_rate'"),
        (["lr=1e-4..1e-2"], "It is called 'learning_rate' here"),
        (["gamma=0.9..1.5"], r"gamma is 1.5; it must lie in \[0, 1\]"),
        (["hidden_size=0,8"], "hidden_size is 0; it must be at least 1"),
        (["hidden_size=8.5"], "hidden_size is 8.5; it must be a whole number"),
        (["memory.bptt_horizon=0"], "memory.bptt_horizon is 0"),
        (["value_loss=huge"], "value_loss is 'huge'; it must be one of squared, huber"),
        (["gamma=0.9,0.99", "gamma=1"], "names 'gamma' twice"),
        (["cell=lstm..gru"], "is no range"),
        (["seed=1,2"], "'seed' can't be searched"),
        (["eval_episodes=1,2"], "'eval_episodes' can't be searched"),
        (["cell_kwargs=a,b"], "cell_kwargs is 'a'"),
        (["vf_coef"], "No space of 'vf_coef' is known"),
        (["num_steps=8,16"], "'num_steps' is fixed by its flag"),
    ],
)
def test_what_can_not_be_searched_is_refused(words: list[str], told: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=told):
        make_space(make_config("ppo", num_steps=8), {"num_steps"}, read_given(words))


def test_a_search_needs_something_to_search_and_to_compare() -> None:
    with pytest.raises(ConfigError, match="learns nothing"):
        make_space(make_config("random"), (), {})
    with pytest.raises(ConfigError, match="Nothing is left to search"):
        make_space(make_config("ppo"), (), {}, only=True)
    for silent in ({"eval_episodes": 0}, {"eval_env": "none"}):
        with pytest.raises(ConfigError, match="A search compares evaluations"):
            make_plan(make_config("ppo", **silent), "", (), {}, Options())
    with pytest.raises(ConfigError, match="steps_per_trial is 100 and total_steps 200"):
        make_plan(make_config("ppo", total_steps=200), "", {"total_steps"}, {}, Options(steps_per_trial=100))
    with pytest.raises(ConfigError, match="trials is 0"):
        Options(trials=0)
    with pytest.raises(ConfigError, match="pruner is 'mean'"):
        Options(pruner="mean")  # type: ignore[arg-type]


def test_annotations_name_settings_that_there_are() -> None:
    for agent in AGENTS:
        config_type = load_agent_config(agent)
        assert set(config_type.searched) <= set(setting_fields(config_type))
    assert "learning_rate" in declared(load_agent_config("ppo"))


def test_a_trial_is_measured_as_planned_and_flags_win() -> None:
    plan = make_plan(make_config("ppo"), "", (), {}, Options(steps_per_trial=1000))
    run = plan.base.run
    assert (run.total_steps, run.eval_every, run.num_threads, run.record_every) == (1000, 200, 1, 0)
    config = make_config("ppo", num_threads=2, eval_every=0, total_steps=700)
    run = make_plan(config, "", {"num_threads", "eval_every", "total_steps"}, {}, Options()).base.run
    assert (run.total_steps, run.eval_every, run.num_threads) == (700, 700, 2)


def test_a_preset_file_is_read_back_as_what_was_written(tmp_path: Path) -> None:
    settings = {
        "env": "rlstm/TMaze-v0",
        "env_kwargs": {"corridor_length": 3, "an odd key": 'quo"te'},
        "env_wrappers": ("mask=0,2",),
        "final_ent_coef": None,
        "learning_rate": 1e-05,
        "encoder_sizes": (),
        "inputs.previous_action": True,
        "memory.bptt_horizon": 16,
        "seed": 3,
    }
    config = make_config("reinforce", **settings)
    text = preset_text(config, ["a remark"])
    assert text.startswith("# a remark\nagent = ")
    stored = tomllib.loads(text)
    assert stored.pop("agent") == "reinforce"
    assert config_from_layers("reinforce", None, stored, {"seed": 3}).settings() == config.settings()
    assert "seed" not in stored
    assert "gamma" not in stored
    with pytest.raises(ConfigError, match=r"env_kwargs is .* TOML file can't hold"):
        preset_text(make_config("ppo", env_kwargs={"depth": None}))


def plan_of(**options: int) -> Plan:
    config = make_config("ppo", env="rlstm/TMaze-v0")
    return make_plan(config, "default settings", (), {"learning_rate": None}, Options(**options), only=True)


def test_finals_pit_the_best_trials_against_the_start() -> None:
    plan = plan_of(finalists=2, final_seeds=2)
    values = {0: 9.0, 1: 2.0, 2: 5.0, 3: 2.0, 4: 1.0}
    trials = [Record(n, "done", value, {"learning_rate": n}, is_start=n == 0) for n, value in values.items()]
    trials += [Record(5, "pruned", 8.0), Record(6, "failed", None, reason="x")]
    assert planned_runs(plan, trials) == [
        *((name, 100_000) for name in (2, 1, None)),
        *((name, 100_001) for name in (2, 1, None)),
    ]


def test_the_best_mean_over_fresh_seeds_wins_not_the_best_trial() -> None:
    plan = plan_of(finalists=2, final_seeds=2)
    trials = [Record(n, "done", value) for n, value in ((1, 9.0), (2, 5.0))]

    def won(runs: dict[int | None, tuple[float | None, float | None]]) -> list[int | None]:
        played = [
            Record(0, "failed" if value is None else "done", value, seed=100_000 + index, candidate=name)
            for name, values in runs.items()
            for index, value in enumerate(values)
        ]
        return [one.trial for one in finalists(plan, trials, played)]

    assert won({1: (0.0, 5.0), 2: (4.0, 4.0), None: (1.0, 1.0)}) == [2, 1, None]
    assert won({1: (0.0, 5.0), 2: (4.0, 4.0), None: (4.0, 4.0)}) == [None, 2, 1]  # Of equals the start.
    assert won({1: (99.0, None), 2: (4.0, 4.0), None: (1.0, 1.0)}) == [2, None, 1]  # A failed run loses.


def test_a_difference_is_clear_beyond_two_standard_errors() -> None:
    def finalist(*returns: float) -> Finalist:
        return Finalist(1, {}, None, tuple(range(len(returns))), returns)

    one, other = finalist(3.0, 5.0), finalist(0.0, 2.0)
    compared = compare(one, other)
    assert (one.mean, one.error) == (4.0, 1.0)
    assert (compared.difference, compared.error) == (3.0, pytest.approx(2**0.5))
    assert compared.is_clear
    assert not compare(one, finalist(1.0, 3.0)).is_clear
    assert compare(finalist(3.0), finalist(0.0)).error is None
    assert not compare(finalist(3.0), finalist(0.0)).is_clear
