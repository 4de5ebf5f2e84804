"""The convolutional LSTM: its equations, maps laid flat, and policies that see images through it."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn.functional import conv2d

from rlstm.cells import make_cell
from rlstm.cells.conv_lstm import ConvLSTMCell, ConvLSTMState
from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.testing import check_cell

MAPS = (2, 3, 4)
IMAGE = spaces.Box(0, 255, (6, 7, 3), np.uint8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(hidden: int = 3, extras: int = 0, **options: Any) -> ConvLSTMCell:
    cell = ConvLSTMCell(24 + extras, hidden, map_shape=MAPS, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def lived(cell: ConvLSTMCell, rows: int = 5) -> ConvLSTMState:
    shape = (rows, *cell.weight_ch.shape[1:])
    return ConvLSTMState(torch.randn(shape).double(), torch.randn(shape).double())


def test_a_step_is_the_papers() -> None:
    cell = make()
    inputs, (h, c) = torch.randn(5, *MAPS).double(), lived(cell)
    from_input, from_state = (
        [conv2d(maps, weight, padding=1) for weight in weights.chunk(4)]
        for maps, weights in ((inputs, cell.weight_ih), (h, cell.weight_hh))
    )
    bias = [one[:, None, None] for one in cell.bias.chunk(4)]
    i, f, g, o = (a + b + d for a, b, d in zip(from_input, from_state, bias, strict=True))
    peep_i, peep_f, peep_o = cell.weight_ch
    new_c = torch.sigmoid(f + peep_f * c) * c + torch.sigmoid(i + peep_i * c) * torch.tanh(g)
    new_h = torch.sigmoid(o + peep_o * new_c) * torch.tanh(new_c)
    outputs, state = cell.step(inputs.flatten(1), ConvLSTMState(h, c))
    torch.testing.assert_close(outputs, new_h.flatten(1))
    torch.testing.assert_close(state.c, new_c)
    assert cell.output_size == 3 * 3 * 4


def test_maps_keep_the_contract_of_cells() -> None:
    # The contract's inputs have four numbers: maps of 1 x 2 x 2.
    check_cell(lambda inputs, hidden: ConvLSTMCell(inputs, hidden, map_shape=(inputs // 4, 2, 2)))


def test_gradients_agree_with_finite_differences_under_resets() -> None:
    cell = ConvLSTMCell(5, 2, map_shape=(1, 2, 2)).double()
    is_first = torch.tensor([[False, True], [True, False], [False, True]])
    inputs = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    h, c = (torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def run(inputs: torch.Tensor, h: torch.Tensor, c: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return cell.sequence(inputs, ConvLSTMState(h, c), is_first)[0]

    assert torch.autograd.gradcheck(run, (inputs, h, c, *cell.parameters()))


def test_what_stands_behind_the_maps_is_seen_at_every_place() -> None:
    cell = make(extras=2)
    maps, extras = torch.randn(5, *MAPS).double(), torch.randn(5, 2).double()
    with torch.no_grad():
        outputs, _ = cell.step(torch.cat([maps.flatten(1), extras], 1), cell.init_state(5))
        planes = extras[:, :, None, None].expand(-1, -1, 3, 4)
        counterpart = ConvLSTMCell(4 * 12, 3, map_shape=(4, 3, 4)).double()
        counterpart.load_state_dict(cell.state_dict())
        expected, _ = counterpart.step(torch.cat([maps, planes], 1).flatten(1), cell.init_state(5))
    torch.testing.assert_close(outputs, expected)


def test_a_stack_reads_the_maps_of_the_layer_below() -> None:
    stack = make_cell("conv_lstm", 24, 3, num_layers=3, options={"map_shape": MAPS})
    assert [layer.map_shape for layer in stack.layers] == [MAPS, (3, 3, 4), (3, 3, 4)]
    outputs, _ = stack.step(torch.randn(2, 24), stack.init_state(2))
    assert outputs.shape == (2, 36)


def make_policy(space: spaces.Space[Any], **config: Any) -> RecurrentPolicy:
    seen = InputsConfig(previous_action=True, previous_reward=True, episode_start=True)
    settings = PolicyConfig(cell="conv_lstm", hidden_size=3, **config)
    policy = RecurrentPolicy(space, spaces.Discrete(4), settings, MemoryConfig("lifelong"), seen).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return policy


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_policy_sees_an_image_as_maps_and_acts_as_it_learns(num_layers: int) -> None:
    policy = make_policy(IMAGE, num_layers=num_layers)
    steps, rows = 6, 3
    images = torch.randint(0, 256, (steps, rows, 6, 7, 3), dtype=torch.uint8)
    is_first = torch.rand(steps, rows) < 0.4
    actions, rewards = torch.randint(0, 4, (steps, rows)), torch.randn(steps, rows).double()
    inputs = PolicyInputs(images, actions, rewards, is_first)
    trunk, state = policy.actor, policy.init_state(rows)
    with torch.no_grad():
        encoded = policy.input_features(trunk.encoder, inputs, is_first, policy.reward_scale, policy.dtype)
        features, _ = trunk.cell.sequence(encoded, state[0], is_first)
        expected = policy.distribution.mode(policy.policy_head(features), None)
    snapshot, chosen = policy.acting_snapshot(), []
    with torch.inference_mode():
        for t in range(steps):
            seen = PolicyInputs(images[t], actions[t], rewards[t], is_first[t])
            acted, state = snapshot.act(seen, state, is_first[t], deterministic=True)
            chosen.append(acted)
    assert torch.equal(torch.stack(chosen), expected)
    assert len(expected.unique()) > 1


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (4,)), spaces.Dict({"a": IMAGE, "b": spaces.Discrete(3)})])
def test_other_observations_are_refused(space: spaces.Space[Any]) -> None:
    with pytest.raises(
        UnsupportedSpaceError, match=r"reads one image, but the observations are .* 'lstm' for instance"
    ):
        make_policy(space)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"input_size is 9, but maps of the shape \(2, 3, 4\) are 24 numbers"):
        ConvLSTMCell(9, 3, map_shape=MAPS)
    with pytest.raises(ValueError, match="kernel_size is 2; it must be odd"):
        ConvLSTMCell(24, 3, map_shape=MAPS, kernel_size=2)
    with pytest.raises(ValueError, match="cell_kwargs has a map_shape, but the observations decide it"):
        make_policy(IMAGE, cell_kwargs={"map_shape": [1, 2, 2]})
