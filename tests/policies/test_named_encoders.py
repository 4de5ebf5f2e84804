"""Claims about `rlstm.policies.encoders`: which encoder reads which part, options, the contract and its check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import rlstm
from rlstm.core.errors import UnknownNameError, UnsupportedSpaceError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.config import PolicyConfig
from rlstm.policies.encoders import ENCODERS, Encoder, make_encoders
from rlstm.policies.encoders.numbers import NumbersEncoder
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import ObservationEncoder
from rlstm.policies.policy import RecurrentPolicy
from rlstm.testing import ContractError, check_encoder

FLOAT = torch.float32
IMAGE = spaces.Box(0, 255, (20, 24, 3), np.uint8)
PARTS: dict[str, spaces.Space[Any]] = {
    "vector": spaces.Box(-5, 500, (3,)),
    "matrix": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "bits": spaces.MultiBinary((2, 2)),
    "symbol": spaces.Discrete(4, start=-1),
    "symbols": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-2, 5]]),
    "image": IMAGE,
    "image, channels first": spaces.Box(0, 255, (1, 40, 37), np.uint8),
}
WHOLE = spaces.Dict({"camera": IMAGE, "speed": spaces.Box(0, 90, (2,)), "gear": spaces.Discrete(5)})


def readers(space: spaces.Space[Any], name: str, **options: Any) -> dict[str, str]:
    return {"/".join(path): type(one).__name__ for path, _, one in make_encoders(space, name, options, {})}


READ = [(name, part) for name, encoder in ENCODERS.items() for part, space in PARTS.items() if encoder.reads(space)]


@pytest.mark.parametrize(("name", "part"), READ)
def test_every_encoder_keeps_the_contract_on_every_part_that_it_reads(name: str, part: str) -> None:
    check_encoder(ENCODERS[name], PARTS[part])


def test_every_part_is_read_by_somebody_and_no_encoder_is_idle() -> None:
    for space in PARTS.values():
        assert any(one.reads(space) for one in ENCODERS.values())
    for one in ENCODERS.values():
        assert any(one.reads(space) for space in PARTS.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", {"camera": "CNNEncoder", "speed": "NumbersEncoder", "gear": "OneHotEncoder"}),
        ("impala", {"camera": "IMPALAEncoder", "speed": "NumbersEncoder", "gear": "OneHotEncoder"}),
        ("mlp", {"camera": "NumbersEncoder", "speed": "NumbersEncoder", "gear": "OneHotEncoder"}),
        ("embedding", {"camera": "CNNEncoder", "speed": "NumbersEncoder", "gear": "EmbeddingEncoder"}),
    ],
)
def test_the_named_encoder_reads_what_it_can_and_the_default_ones_the_rest(name, expected):
    assert readers(WHOLE, name) == expected


def test_options_and_the_layout_of_images_reach_the_encoder() -> None:
    image = spaces.Box(0, 255, (4, 20, 9), np.uint8)
    options = {"channels": [5, 6], "kernels": [3, 2], "strides": [1, 1]}
    ((_, _, cnn),) = make_encoders(image, "cnn", options, {"image_layout": "chw"})
    assert isinstance(cnn, ENCODERS["cnn"])
    assert cnn.map_shape == (6, 17, 6)
    convolutions = [one for one in cnn.modules() if isinstance(one, nn.Conv2d)]
    assert [(one.in_channels, one.out_channels, one.kernel_size[0]) for one in convolutions] == [(4, 5, 3), (5, 6, 2)]


def test_embeddings_of_different_symbols_are_rows_of_their_own() -> None:
    space = spaces.MultiDiscrete([2, 3], start=[1, -1])
    ((_, _, encoder),) = make_encoders(space, "embedding", {"size": 4}, {})
    table: Any = encoder.table
    features = encoder(torch.tensor([[2, -1], [1, 1]]), FLOAT)
    assert torch.equal(features, torch.stack([table.weight[[1, 2]].flatten(), table.weight[[0, 4]].flatten()]))


def test_impala_is_the_papers_network() -> None:
    """For 72 x 96 pixels: 15 convolutions of 3 x 3 with 16, 32, 32 maps, and sides halved three times."""
    ((_, _, encoder),) = make_encoders(spaces.Box(0, 255, (72, 96, 3), np.uint8), "impala", {}, {})
    convolutions = [one for one in encoder.modules() if isinstance(one, nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [16] * 5 + [32] * 10
    assert encoder.map_shape == (32, 9, 12)
    block: Any = encoder.layers[2]
    maps = torch.randn(2, 16, 5, 5)
    inner = block.second(torch.relu(block.first(torch.relu(maps))))
    assert torch.equal(block(maps), maps + inner)


@pytest.mark.parametrize(
    ("space", "name", "options", "error", "message"),
    [
        (WHOLE, "imapla", {}, UnknownNameError, "Unknown encoder 'imapla'. Did you mean 'impala'"),
        (PARTS["vector"], "impala", {}, UnsupportedSpaceError, "encoder 'impala' can read no part of Box"),
        (WHOLE, "auto", {"size": 3}, ValueError, "encoder_kwargs is {'size': 3}, but encoder is auto"),
        (WHOLE, "embedding", {"width": 3}, ValueError, "'embedding' has no option 'width'. Its options: size"),
        (WHOLE, "embedding", {"size": 0}, ValueError, "size is 0; it must be at least 1"),
        (WHOLE, "embedding", {"size": 2.5}, ValueError, "size is 2.5; it must be a whole number"),
        (WHOLE, "mlp", {"size": 3}, ValueError, "The encoder 'mlp' has no option 'size'. It has none."),
        (WHOLE, "cnn", {"image_layout": "hwc"}, ValueError, "has no option 'image_layout'"),
        (WHOLE, "cnn", {"channels": [8]}, ValueError, "kernels is None; give channels, kernels and strides together"),
        (
            WHOLE,
            "cnn",
            {"channels": [8, 8], "kernels": [16, 8], "strides": [2, 2]},
            ValueError,
            "no 8 pixels are left of the 20 of the image",
        ),
        (WHOLE, "cnn", {"channels": [8], "kernels": [0], "strides": [2]}, ValueError, r"kernels is \[0\]; each must"),
        (WHOLE, "impala", {"channels": []}, ValueError, r"channels is \[\]; it must be a list"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_value(space, name, options, error, message):
    with pytest.raises(error, match=message):
        make_encoders(space, name, options, {"image_layout": "auto", "image_strides": True})


# One's own


class Attention(Encoder):
    """Reads a whole Dict: the sum of its entities ``(..., 4, 3)``, beside a query."""

    def __init__(self, space: spaces.Dict, *, width: int = 6) -> None:
        super().__init__()
        self.output_size = width
        self.linear = nn.Linear(3, width)
        self.names = list(space.spaces)

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        return isinstance(space, spaces.Dict) and "entities" in space.spaces

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        assert sorted(observations) == sorted(self.names)  # No mask, no time.
        query = observations["query"].to(dtype)
        result: Tensor = torch.tanh(self.linear(observations["entities"].to(dtype))).sum(-2) + query
        return result


class History(Encoder):
    """A window of sensors ``(..., 2, 3)``, normalised."""

    takes_normalised = True
    output_size = 2

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        return isinstance(space, spaces.Box) and space.shape == (2, 3)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        assert observations.dtype == dtype
        result: Tensor = observations.sum(-1)
        return result


ENTITIES = spaces.Dict({"entities": spaces.Box(-1, 1, (4, 3)), "query": spaces.Box(-1, 1, (1,))})


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "attention", Attention)
    monkeypatch.setitem(ENCODERS, "history", History)


@pytest.mark.usefixtures("own")
def test_an_encoder_of_ones_own_reads_a_whole_dict_without_its_mask() -> None:
    check_encoder(Attention, ENTITIES)
    seen = spaces.Dict({**ENTITIES.spaces, "action_mask": spaces.MultiBinary(2), "time": spaces.Box(0, 9, (1,))})
    encoder = ObservationEncoder(
        seen, 0, (), normalise=True, encoder="attention", encoder_kwargs={"width": 5}, left_out=("time",)
    )
    assert encoder.output_size == 5
    observation = {"entities": torch.ones(2, 4, 3), "query": torch.zeros(2, 1), "action_mask": None, "time": None}
    assert encoder(observation, [], FLOAT).shape == (2, 5)
    assert encoder.moments is None  # It reads the Dict raw.


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("acting", [True, False])
def test_an_encoder_that_asks_for_it_is_given_deviations_from_the_mean(acting: bool) -> None:
    space = spaces.Dict({"a": spaces.Box(-9, 9, (1,)), "window": spaces.Box(0, 2e9, (2, 3), np.float64)})
    encoder = ObservationEncoder(space, 0, (), normalise=True, encoder="history")
    assert encoder.moments is not None
    windows = 1.7e9 + torch.arange(12.0).double().view(2, 2, 3)
    observations = {"a": torch.tensor([[1.0], [3.0]]), "window": windows}
    encoder.moments.update(encoder.vectors(observations, FLOAT))
    run = encoder.acting_snapshot(FLOAT) if acting else encoder
    expected = torch.tensor([[-1.0, -3, -3], [1, 3, 3]])
    torch.testing.assert_close(run(observations, [], FLOAT), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("space", "settings"),
    [
        (ENTITIES, {"encoder": "attention"}),
        (spaces.Box(-1, 1, (2, 3)), {"encoder": "history"}),
        (IMAGE, {"encoder": "impala", "encoder_kwargs": {"channels": [4]}}),
        (IMAGE, {"encoder": "impala", "encoder_kwargs": {"channels": [4, 4]}, "cell": "conv_lstm", "hidden_size": 3}),
        (WHOLE, {"encoder": "embedding", "critic_memory": "separate"}),
    ],
)
def test_a_policy_learns_from_what_it_saw_when_it_acted(space, settings):
    """Log-probabilities and values of a whole rollout are those of its steps."""
    torch.manual_seed(0)
    config = PolicyConfig(**{"hidden_size": 7, **settings})
    policy = RecurrentPolicy(space, spaces.Discrete(3), config, MemoryConfig(), InputsConfig()).double()
    space.seed(0)
    samples = [[space.sample() for _ in range(2)] for _ in range(4)]

    def stacked(*leaves: Any) -> Tensor:
        values = torch.as_tensor(np.stack([np.asarray(leaf) for leaf in leaves]))
        return values.double() if values.is_floating_point() else values

    observations = [tree_map(stacked, *row) for row in samples]
    is_first = torch.tensor([[True, True], [False, False], [False, True], [False, False]])
    state, steps = policy.init_state(2), []
    for seen, first in zip(observations, is_first, strict=True):
        step = policy.step(PolicyInputs(seen, None, None, None, None), state, first)
        steps.append(step)
        state = step.state
    whole = tree_map(lambda *leaves: torch.stack(leaves), *observations)
    actions = torch.stack([step.actions for step in steps])
    result = policy.evaluate(PolicyInputs(whole, None, None, None, None), actions, is_first, policy.init_state(2))
    torch.testing.assert_close(result.log_probs, torch.stack([step.log_probs for step in steps]), rtol=0, atol=1e-9)
    torch.testing.assert_close(result.values, torch.stack([step.values for step in steps]), rtol=0, atol=1e-9)


def test_the_example_of_the_docs_keeps_the_contract_and_trains_resumes_and_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "your-own-env.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```python\n(.*?)```", page, re.S) if "ENCODERS[" in one]
    (tmp_path / "my_encoder.py").write_text(block + PLANT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ENCODERS, "window", Encoder)  # Taken out again at the end, whoever has put it in.
    settings = {"env": "plant/Plant-v0", "env_import": ["my_encoder"], "encoder": "window"}
    sizes = {"num_envs": 2, "num_steps": 8, "num_minibatches": 1, "hidden_size": 4, "encoder_kwargs": {"channels": 3}}
    run = {"total_steps": 32, "eval_episodes": 2, "num_threads": 1, "run_dir": str(tmp_path / "run")}
    rlstm.train("ppo", ui="none", **settings, **sizes, **run)
    check_encoder(ENCODERS["window"], spaces.Box(0, 100, (8, 3)))
    assert rlstm.resume(tmp_path / "run", total_steps=48, ui="none").steps == 48
    agent = rlstm.load(tmp_path / "run")
    assert agent.policy.actor.encoder.leaves[0].output_size == 3 * 6
    assert agent.act(np.full((8, 3), 50.0)) in (0, 1)


PLANT = """

import gymnasium as gym
import numpy as np


class Plant(gym.Env):
    observation_space, action_space = spaces.Box(0.0, 100.0, (8, 3)), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(0, 100, (8, 3)).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        seen = self.np_random.uniform(0, 100, (8, 3)).astype(np.float32)
        return seen, float(action), self.steps == 5, False, {}


gym.register("plant/Plant-v0", "my_encoder:Plant")
"""


# What the check catches


class Fine(NumbersEncoder):
    """Numbers through a layer; the breakages below change one thing each."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.linear = nn.Linear(self.output_size, 4)
        self.output_size = 4

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        result: Tensor = self.linear(super().forward(observations, dtype))
        return result


class MixesRows(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        features = super().forward(observations, dtype)
        return features - features.mean(-2, keepdim=True)


class MixesSteps(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        features = super().forward(observations, dtype)
        return features.cumsum(0) if features.dim() == 3 else features


class DropsOut(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return nn.functional.dropout(super().forward(observations, dtype), 0.5)


class Rounds(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return super().forward(observations, dtype).float()


class Writes(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        features = super().forward(observations, dtype)
        observations.zero_()
        return features


class SaysAnotherWidth(Fine):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.output_size = 5


class HasIdleWeights(Fine):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.idle = nn.Linear(2, 2)


class HidesItsState(Fine):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.hidden = torch.randn(4)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return super().forward(observations, dtype) + self.hidden.to(dtype)


class Overflows(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return super().forward(observations, dtype) + 1 / (9.0 - observations.to(dtype)).sum(-1, keepdim=True)


class CutsGradients(Fine):
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return super().forward(observations, dtype).detach()


class ReadsNothing(Fine):
    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        return False


BROKEN = {
    MixesRows: "rows of the batch mix|differ from those of",
    MixesSteps: "differ from those of",
    DropsOut: "The same observations give other features|differ from",
    Rounds: "float32 where torch.float64",
    Writes: "writes to its observations|differ",
    SaysAnotherWidth: r"not \(T, B, output_size\)",
    HasIdleWeights: "'idle.weight' have no part",
    HidesItsState: "state_dict has other features",
    Overflows: "not finite",
    CutsGradients: "no gradient",
    ReadsNothing: "reads: False",
}


def test_a_fine_encoder_passes() -> None:
    check_encoder(Fine, spaces.Box(-9, 9, (3,)))


@pytest.mark.parametrize("broken", BROKEN)
def test_the_check_finds_what_is_broken(broken):
    with pytest.raises(ContractError, match=BROKEN[broken]):
        check_encoder(broken, spaces.Box(-9, 9, (3,)))


def test_a_seed_draws_the_weights_of_an_image_that_it_always_did():
    """First all layers with torch's own weights, then orthogonal ones: stored runs and rows of results were so."""
    torch.manual_seed(7)
    layers = [nn.Conv2d(3, 32, 4, 2), nn.Conv2d(32, 64, 3, 2), nn.Conv2d(64, 64, 3, 1)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 2**0.5)
    torch.manual_seed(7)
    ((_, _, encoder),) = make_encoders(IMAGE, "auto", {}, {})
    made = [one for one in encoder.modules() if isinstance(one, nn.Conv2d)]
    assert all(torch.equal(one.weight, layer.weight) for one, layer in zip(made, layers, strict=True))
