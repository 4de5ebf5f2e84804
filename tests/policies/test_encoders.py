"""Claims about `rlstm.policies.encoders`: every supported observation space becomes features, exactly those meant."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.layers import HighwayLayer, linear, mlp
from rlstm.policies.normalisers import RunningMoments
from rlstm.policies.observations import ObservationEncoder, observation_dtypes

FLOAT = torch.float32


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def encoder_of(
    space: spaces.Space[Any], *, normalise: bool = False, num_extras: int = 0, **options: Any
) -> ObservationEncoder:
    """Return an encoder without layers, whose output is the features themselves."""
    return ObservationEncoder(space, num_extras, (), normalise=normalise, **options)


def batch(space: spaces.Space[Any], leading: tuple[int, ...], dtype: torch.dtype = FLOAT) -> Tree:
    """Sample observations of a space with leading axes, in the types in which rollouts keep them."""
    space.seed(0)
    samples = [space.sample() for _ in range(math.prod(leading))]

    def stack(kind: torch.dtype, *leaves: Any) -> Tensor:
        return torch.as_tensor(np.stack([np.asarray(leaf) for leaf in leaves])).to(kind).unflatten(0, leading)

    return tree_map(stack, observation_dtypes(space, dtype), *samples)


SPACES: dict[str, tuple[spaces.Space[Any], int | None]] = {
    "vector": (spaces.Box(-1, 1, (3,)), 3),
    "scalar": (spaces.Box(-1, 1, ()), 1),
    "matrix": (spaces.Box(-1, 1, (2, 3)), 6),
    "image of floats": (spaces.Box(0, 1, (4, 5, 3)), 60),
    "float64": (spaces.Box(-1, 1, (3,), np.float64), 3),
    "whole numbers": (spaces.Box(-5, 5, (2, 2), np.int32), 4),
    "bytes": (spaces.Box(0, 255, (4,), np.uint8), 4),
    "uint16": (spaces.Box(0, 60_000, (4,), np.uint16), 4),
    "booleans": (spaces.Box(0, 1, (4,), np.bool_), 4),
    "discrete": (spaces.Discrete(4), 4),
    "discrete from 3": (spaces.Discrete(4, start=3), 4),
    "discrete from -2": (spaces.Discrete(4, start=-2), 4),
    "multi-discrete": (spaces.MultiDiscrete([2, 3]), 5),
    "multi-discrete from 1": (spaces.MultiDiscrete([2, 3], start=[1, -1]), 5),
    "multi-discrete matrix": (spaces.MultiDiscrete([[2, 3], [4, 5]]), 14),
    "multi-binary": (spaces.MultiBinary(3), 3),
    "multi-binary matrix": (spaces.MultiBinary((2, 3)), 6),
    "image, channels last": (spaces.Box(0, 255, (7, 7, 3), np.uint8), None),
    "image, channels first": (spaces.Box(0, 255, (3, 7, 9), np.uint8), None),
    "image of Atari's size": (spaces.Box(0, 255, (4, 84, 84), np.uint8), 3136),
    "grey image, channels last": (spaces.Box(0, 255, (40, 36, 1), np.uint8), None),
    "dict": (spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(-1, 1, (2,))}), 4),
    "tuple": (spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2))), 4),
    "nested": (
        spaces.Dict(
            {
                "x": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Dict({"y": spaces.Discrete(3, start=1)}))),
                "z": spaces.Box(0, 255, (5, 5, 3), np.uint8),
            }
        ),
        None,
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPACES)
def test_every_supported_space_is_encoded_with_any_leading_axes(name: str, dtype: torch.dtype) -> None:
    space, size = SPACES[name]
    encoder = encoder_of(space).to(dtype)
    if size is not None:
        assert encoder.output_size == size
    observations = batch(space, (5, 2), dtype)
    features = encoder(observations, [], dtype)
    assert features.shape == (5, 2, encoder.output_size)
    assert features.dtype == dtype
    assert torch.isfinite(features).all()
    one = encoder(tree_map(lambda leaf: leaf[3], observations), [], dtype)
    torch.testing.assert_close(one, features[3], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_different_observations_have_different_features(name: str) -> None:
    space, _ = SPACES[name]
    encoder = encoder_of(space)
    features = encoder(batch(space, (40,)), [], FLOAT)
    assert len(features.unique(dim=0)) > 1


@pytest.mark.parametrize("name", SPACES)
def test_a_network_with_layers_has_the_width_of_the_last(name: str) -> None:
    encoder = ObservationEncoder(SPACES[name][0], 2, (8, 3), normalise=True)
    extras = [torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool)]
    assert encoder(batch(SPACES[name][0], (4,)), extras, FLOAT).shape == (4, encoder.output_size) == (4, 3)


def test_a_discrete_observation_is_one_hot_from_its_start() -> None:
    encoder = encoder_of(spaces.Discrete(3, start=-1))
    assert encoder(torch.tensor([-1, 0, 1]), [], FLOAT).tolist() == torch.eye(3).tolist()


def test_a_multi_discrete_matrix_is_one_hot_row_by_row() -> None:
    encoder = encoder_of(spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[0, 1], [0, -1]]))
    features = encoder(torch.tensor([[[1, 3], [0, -1]]]), [], FLOAT)
    assert features.tolist() == [[0, 1, 0, 0, 1, 1, 0, 1, 0]]  # 1 of 2, 2 of 3, 0 of 2, 0 of 2.


def test_parts_of_a_dict_keep_their_place_and_vectors_of_floats_come_first() -> None:
    space = spaces.Dict(
        {"a": spaces.Discrete(2), "b": spaces.Box(-9, 9, (2,)), "c": spaces.MultiBinary(2), "d": spaces.Box(-9, 9, ())}
    )
    observation = {
        "a": torch.tensor([1]),
        "b": torch.tensor([[2.0, 3.0]]),
        "c": torch.tensor([[0, 1]]),
        "d": torch.tensor([4.0]),
    }
    assert encoder_of(space)(observation, [], FLOAT).tolist() == [[2, 3, 4, 0, 1, 0, 1]]
    assert encoder_of(space, normalise=True)(observation, [], FLOAT).tolist() == [[2, 3, 4, 0, 1, 0, 1]]


def test_extras_are_appended_in_their_order() -> None:
    encoder = encoder_of(spaces.Box(-9, 9, (1,)), num_extras=3)
    extras = [torch.tensor([[5, 6]]), torch.tensor([[True]])]
    assert encoder(torch.tensor([[4.0]]), extras, FLOAT).tolist() == [[4, 5, 6, 1]]


def test_the_action_mask_is_no_observation() -> None:
    parts = {"observation": spaces.Box(-1, 1, (2,)), "action_mask": spaces.MultiBinary(5)}
    encoder = encoder_of(spaces.Dict(parts))
    assert encoder.output_size == 2
    observation = {"observation": torch.tensor([[0.5, -0.5]]), "action_mask": torch.ones(1, 5)}
    assert encoder(observation, [], FLOAT).tolist() == [[0.5, -0.5]]
    assert encoder({"observation": observation["observation"]}, [], FLOAT).tolist() == [[0.5, -0.5]]


# Images


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 8, 35, 36])
@pytest.mark.parametrize("width", [2, 5, 36])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_odd_sizes_are_read_in_both_layouts(height: int, width: int, channels: int) -> None:
    for layout, shape in (("hwc", (height, width, channels)), ("chw", (channels, height, width))):
        encoder = encoder_of(spaces.Box(0, 255, shape, np.uint8), image_layout=layout)
        images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
        assert encoder(images, [], FLOAT).shape == (2, 3, encoder.output_size)


@pytest.mark.parametrize("side", [*range(5, 22), 32, 35, 36, 64, 84, 96])
def test_an_image_of_any_size_makes_a_network_of_sensible_size(side: int) -> None:
    """Layers of 64 units on 32 x 32 pixels had 3.4 million weights once."""
    encoder = ObservationEncoder(spaces.Box(0, 255, (side, side, 3), np.uint8), 0, (64,), normalise=False)
    assert sum(weights.numel() for weights in encoder.parameters()) < 600_000


def test_both_layouts_of_an_image_give_the_same_features() -> None:
    last = encoder_of(spaces.Box(0, 255, (8, 9, 3), np.uint8))
    first = encoder_of(spaces.Box(0, 255, (3, 8, 9), np.uint8))
    first.load_state_dict(last.state_dict())
    images = torch.randint(0, 256, (4, 8, 9, 3), dtype=torch.uint8)
    torch.testing.assert_close(first(images.permute(0, 3, 1, 2), [], FLOAT), last(images, [], FLOAT))


@pytest.mark.parametrize("high", [255, 10])
def test_images_are_scaled_by_the_largest_value_of_the_space(high: int) -> None:
    space = spaces.Box(0, high, (6, 7, 3), np.uint8)
    encoder = encoder_of(space)
    layers: Any = encoder.leaves[0].layers
    images = torch.full((1, 6, 7, 3), high, dtype=torch.uint8)
    torch.testing.assert_close(encoder(images, [], FLOAT), layers(torch.ones(1, 3, 6, 7)).flatten(1))


# What is not supported


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(5), r"Observation space Text\(.*\) is not supported"),
        (spaces.Dict({"a": spaces.Dict({"b": spaces.Text(5)})}), r"at a/b is not supported\. Supported: Box"),
        (spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), spaces.Text(5)))}), "at a/1 is not supported"),
        (spaces.Sequence(spaces.Discrete(2)), "Sequence.* is not supported"),
        (spaces.Graph(spaces.Box(-1, 1, (2,)), None), "Graph.* is not supported"),
    ],
)
def test_an_unsupported_part_is_named_with_its_place(space: spaces.Space[Any], message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        encoder_of(space)


# Types


def test_observations_are_kept_in_the_types_meant() -> None:
    space = spaces.Dict(
        {
            "float64": spaces.Box(-1, 1, (2,), np.float64),
            "bytes": spaces.Box(0, 255, (2,), np.uint8),
            "int8": spaces.Box(-3, 3, (2,), np.int8),
            "int32": spaces.Box(-3, 3, (2,), np.int32),
            "parts": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 2]))),
        }
    )
    assert observation_dtypes(space, torch.float64) == {
        "float64": torch.float64,
        "bytes": torch.uint8,
        "int8": torch.int8,
        "int32": torch.int64,
        "parts": (torch.int64, torch.int8, torch.int64),
    }


@pytest.mark.parametrize("name", SPACES)
def test_no_value_of_a_space_is_lost_in_the_type_it_is_kept_in(name: str) -> None:
    space, _ = SPACES[name]
    space.seed(1)
    sample = space.sample()
    kept = tree_map(
        lambda kind, leaf: torch.as_tensor(np.asarray(leaf)).to(kind), observation_dtypes(space, FLOAT), sample
    )
    for one, other in zip(tree_leaves(kept), tree_leaves(tree_map(np.asarray, sample)), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-6, atol=1e-6)


# Running moments


def test_running_moments_of_uneven_batches_are_numpys_of_all_samples() -> None:
    samples = np.random.default_rng(0).normal([5.0, -300.0, 1e-3], [2.0, 50.0, 1e-5], (1000, 3))
    moments = RunningMoments(3)
    for piece in np.split(samples, [1, 2, 7, 400]):
        moments.update(torch.from_numpy(piece))
    np.testing.assert_allclose(moments.mean.numpy(), samples.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance.numpy(), samples.var(0), rtol=1e-9)
    assert float(moments.count) == 1000


def test_moments_are_exact_where_the_mean_is_far_larger_than_the_deviation() -> None:
    samples = 1e6 + np.random.default_rng(0).normal(0, 1e-2, (500, 1))
    moments = RunningMoments(1)
    for piece in np.split(samples, 10):
        moments.update(torch.from_numpy(piece))
    np.testing.assert_allclose(moments.variance.numpy(), samples.var(0), rtol=1e-6)


def test_samples_in_single_precision_are_summed_in_double() -> None:
    samples = torch.rand((1000, 1), generator=torch.Generator().manual_seed(0)) + 1000
    moments = RunningMoments(1)
    for piece in samples.split(100):
        moments.update(piece)
    assert float(moments.mean) == pytest.approx(float(samples.double().mean()), abs=1e-10)
    assert float(moments.variance) == pytest.approx(float(samples.double().var(correction=0)), rel=1e-10)


def test_an_update_with_nothing_changes_nothing() -> None:
    moments = RunningMoments(2)
    moments.update(torch.zeros(0, 2))
    assert (moments.mean.tolist(), moments.variance.tolist(), float(moments.count)) == ([0, 0], [1, 1], 0)
    moments.update(torch.randn(5, 2))
    before = copy.deepcopy(moments.state_dict())
    moments.update(torch.zeros(0, 2))
    assert all(torch.equal(before[key], value) for key, value in moments.state_dict().items())


def test_normalised_values_have_mean_0_and_deviation_1_and_are_clipped_to_10() -> None:
    samples = torch.randn(5000, 2, dtype=torch.float64) * 3 + 7
    moments = RunningMoments(2)
    moments.update(samples)
    normalised = moments.normalise(samples)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(2).double(), rtol=0, atol=1e-6)
    assert moments.normalise(torch.tensor([[1e9, -1e9]])).tolist() == [[10, -10]]


def test_before_the_first_update_normalising_changes_nothing_but_clips() -> None:
    values = torch.tensor([[-9.5, 0.0, 3.25, 11.0]])
    assert RunningMoments(4).normalise(values).tolist() == [[-9.5, 0.0, 3.25, 10.0]]


def test_a_constant_feature_is_normalised_to_0() -> None:
    moments = RunningMoments(1)
    moments.update(torch.full((50, 1), 3.0))
    assert moments.normalise(torch.tensor([[3.0]])).tolist() == [[0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moments_stay_exact_in_float64_when_the_module_changes_its_type(dtype: torch.dtype) -> None:
    encoder = encoder_of(spaces.Box(-1, 1, (2,)), normalise=True)
    assert encoder.moments is not None
    encoder.moments.update(torch.full((2**24 + 1, 2), 1 / 3, dtype=torch.float64))
    before = copy.deepcopy(encoder.moments.state_dict())
    encoder.to(dtype)
    for key, value in encoder.moments.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, before[key])


def test_moments_are_saved_with_the_weights_and_copied() -> None:
    encoder = encoder_of(spaces.Box(-1, 1, (2,)), normalise=True)
    assert encoder.moments is not None
    encoder.moments.update(torch.randn(9, 2))
    other = encoder_of(spaces.Box(-1, 1, (2,)), normalise=True)
    other.load_state_dict(encoder.state_dict())
    values = torch.randn(4, 2)
    for copied in (other, copy.deepcopy(encoder)):
        assert torch.equal(copied(values, [], FLOAT), encoder(values, [], FLOAT))
    assert set(encoder.moments.state_dict()) == {"mean", "variance", "count"}


def test_the_normaliser_covers_vectors_of_numbers_and_nothing_else() -> None:
    space = spaces.Dict(
        {
            "d": spaces.Discrete(2),
            "x": spaces.Box(-9, 9, (2,)),
            "m": spaces.MultiBinary(2),
            "i": spaces.Box(0, 9, (), int),
        }
    )
    encoder = encoder_of(space, normalise=True)
    assert encoder.moments is not None
    observations = batch(space, (50,))
    vectors = encoder.vectors(observations, FLOAT)
    assert vectors.shape == (50, 3)
    before = encoder(observations, [], FLOAT)
    encoder.moments.update(vectors)
    after = encoder(observations, [], FLOAT)
    torch.testing.assert_close(after[:, :3].mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    assert torch.equal(after[:, 3:], before[:, 3:])


def test_there_is_no_normaliser_where_there_is_no_vector_or_none_is_wanted() -> None:
    assert encoder_of(spaces.Discrete(3), normalise=True).moments is None
    assert encoder_of(spaces.Box(-1, 1, (2,)), normalise=False).moments is None


# Layers


def test_layers_start_orthogonal_with_zero_biases() -> None:
    layer = linear(6, 4, gain=0.5)
    torch.testing.assert_close(layer.weight @ layer.weight.t(), 0.25 * torch.eye(4), rtol=0, atol=1e-6)
    assert not layer.bias.any()
    torch.testing.assert_close(linear(6, 4).weight.norm(dim=1), torch.full((4,), math.sqrt(2)))


def test_a_stack_of_tanh_layers_is_the_formula() -> None:
    layers, size = mlp(3, (4, 2))
    x = torch.randn(5, 3)
    weights = [parameter.detach().numpy() for parameter in layers.parameters()]
    expected = np.tanh(np.tanh(x.numpy() @ weights[0].T + weights[1]) @ weights[2].T + weights[3])
    np.testing.assert_allclose(layers(x).detach().numpy(), expected, atol=1e-6)
    assert size == 2
    nothing, size = mlp(3, ())
    assert size == 3
    assert torch.equal(nothing(x), x)


def test_a_highway_layer_is_the_papers_and_begins_by_carrying() -> None:
    layer = HighwayLayer(3).double()
    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight, bias = layer.linear.weight, layer.linear.bias
    transformed = torch.tanh(features @ weight[:3].t() + bias[:3])
    gate = torch.sigmoid(features @ weight[3:].t() + bias[3:])
    torch.testing.assert_close(layer(features), transformed * gate + features * (1 - gate))
    assert bias.tolist() == [0.0, 0.0, 0.0, -2.0, -2.0, -2.0]
    assert torch.autograd.gradcheck(layer, (features,))


def test_only_layers_as_wide_as_what_they_read_are_highway_layers() -> None:
    layers, width = mlp(4, (4, 6, 6), is_highway=True)
    assert [type(layer).__name__ for layer in layers] == ["HighwayLayer", "Linear", "Tanh", "HighwayLayer"]
    assert width == 6


# Numbers of 64 bits


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_a_signal_on_top_of_a_large_number_survives_the_normaliser(kind):
    """1.7e9 + 0, 1, 2, 3: in float32 they are one number."""
    space = spaces.Box(0, 2e9, (1,), kind)
    encoder = ObservationEncoder(space, 0, (), normalise=True)
    values = torch.as_tensor(np.array([[1.7e9 + i] for i in range(4)], dtype=kind))
    assert values.dtype == observation_dtypes(space, torch.float32)
    encoder.moments.update(encoder.vectors(values, torch.float32))
    expected = (torch.arange(4.0) - 1.5).unsqueeze(1) / math.sqrt(1.25)
    for encoded in (
        encoder(values, [], torch.float32),
        encoder.acting_snapshot(torch.float32)(values, [], torch.float32),
    ):
        assert encoded.dtype == torch.float32
        torch.testing.assert_close(encoded, expected, rtol=1e-6, atol=1e-7)


def test_a_part_of_64_bits_makes_its_neighbours_no_less_exact():
    space = spaces.Dict({"time": spaces.Box(0, 2e9, (1,), np.float64), "x": spaces.Box(-1, 1, (2,), np.float32)})
    encoder = ObservationEncoder(space, 0, (), normalise=True)
    observations = {"time": torch.tensor([[1.7e9], [1.7e9 + 2]]).double(), "x": torch.tensor([[0.0, 1.0], [0.5, 0.0]])}
    observations["time"][1] = 1.7e9 + 2
    encoder.moments.update(encoder.vectors(observations, torch.float32))
    encoded = encoder(observations, [], torch.float32)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded, torch.tensor([[-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]]), rtol=1e-5, atol=1e-5)


def test_networks_of_earlier_versions_are_made_on_request() -> None:
    space = spaces.Box(0, 255, (24, 24, 3), np.uint8)
    made = [ObservationEncoder(space, 0, (64,), normalise=False, image_strides=strides) for strides in (True, False)]
    assert [encoder.layers[0].weight.shape[1] for encoder in made] == [576, 28_224]


def test_bytes_of_four_axes_are_said_to_be_no_image() -> None:
    encoder = encoder_of(spaces.Box(0, 255, (4, 8, 8, 3), np.uint8))
    (told,) = encoder.images
    assert told.startswith("the 4 axes (4, 8, 8, 3) of uint8 are read as 768 numbers, not as an image")


# The layout of images


@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [
        ((64, 64, 12), "auto", 12),
        ((12, 64, 64), "auto", 12),
        ((84, 84, 3), "auto", 3),
        ((4, 84, 84), "auto", 4),
        ((4, 84, 3), "chw", 4),
        ((7, 7, 3), "auto", 3),
        ((1, 20, 3), "auto", 1),
        ((32, 40, 40), "auto", 32),
        ((40, 40, 40), "hwc", 40),
        ((40, 40, 64), "chw", 40),
        ((3, 9, 3), "hwc", 3),
    ],
)
def test_the_channels_of_an_image_are_its_smaller_end(shape, layout, channels):
    space = spaces.Box(0, 255, shape, np.uint8)
    encoder = ObservationEncoder(space, 0, (), normalise=True, image_layout=layout)
    convolution = next(layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d))
    assert convolution.in_channels == channels
    axis = "last" if shape[-1] == channels and (layout == "hwc" or shape[0] != channels) else "first"
    (description,) = encoder.images
    assert description.endswith(f"{channels} channels on the {axis} axis")
    assert torch.isfinite(encoder(torch.zeros(2, *shape, dtype=torch.uint8), [], FLOAT)).all()


@pytest.mark.parametrize("shape", [(3, 9, 3), (40, 40, 40), (40, 50, 60)])
def test_a_layout_that_can_not_be_told_is_asked_for(shape):
    with pytest.raises(UnsupportedSpaceError, match="say which with --image-layout chw or hwc"):
        ObservationEncoder(spaces.Box(0, 255, shape, np.uint8), 0, (), normalise=True)


def test_images_in_a_dict_are_named_by_their_key():
    space = spaces.Dict({"camera": spaces.Box(0, 255, (20, 20, 3), np.uint8), "x": spaces.Discrete(2)})
    encoder = ObservationEncoder(space, 0, (), normalise=True)
    assert encoder.images == ["'camera': 20 x 20, 3 channels on the last axis"]
