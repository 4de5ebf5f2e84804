"""Claims about `rlstm.policies.distributions`, against `torch.distributions`, frequencies, and formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch import distributions as td

from rlstm.core.errors import UnsupportedSpaceError
from rlstm.policies.distributions import ActionDistribution, make_distribution

SPACES: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(4),
    "discrete from -2": spaces.Discrete(4, start=-2),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete matrix": spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[5, -1], [0, 0]]),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary matrix": spaces.MultiBinary((2, 3)),
    "box": spaces.Box(np.float32([-1, 0, 2]), np.float32([1, 0.5, 30]), dtype=np.float32),
    "box without bounds": spaces.Box(-np.inf, np.inf, (2,)),
    "box matrix of float64": spaces.Box(-0.1, 0.7, (2, 2), np.float64),
    "box scalar": spaces.Box(-1, 1, ()),
}
BOUNDED = ["box", "box matrix of float64", "box scalar"]


def sampled(
    distribution: ActionDistribution, parameters: torch.Tensor, mask: torch.Tensor | None, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions and their log-probabilities."""
    noise = distribution.draw_noise(tuple(parameters.shape[:-1]), generator, parameters)
    actions = distribution.sample(parameters, mask, noise)
    return actions, distribution.log_prob_and_entropy(parameters, actions, mask)[0]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(name: str, squash: bool = False, initial_log_std: float = -0.5, *, scale: bool = False) -> ActionDistribution:
    distribution = make_distribution(SPACES[name], squash=squash, scale=scale, initial_log_std=initial_log_std).double()
    with torch.no_grad():
        for parameter in distribution.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return distribution


def draw(distribution: ActionDistribution, count: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    parameters = torch.randn(count, distribution.num_parameters).double()
    with torch.no_grad():
        return parameters, *sampled(distribution, parameters, mask, torch.Generator().manual_seed(1))


def every_distribution() -> list[Any]:
    plain = [pytest.param(name, False, id=name) for name in SPACES]
    return plain + [pytest.param(name, True, id=f"{name}, squashed") for name in BOUNDED]


def oracle(name: str, distribution: Any, parameters: Tensor) -> td.Distribution | list[td.Distribution]:
    """Return the same distribution of `torch.distributions`: over the stored actions."""
    space = SPACES[name]
    if isinstance(space, spaces.Discrete):
        return td.Categorical(logits=parameters)
    if isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.reshape(-1).tolist()
        return [td.Categorical(logits=part) for part in parameters.split(sizes, -1)]
    if isinstance(space, spaces.MultiBinary):
        return td.Independent(td.Bernoulli(logits=parameters), 1)
    return td.Independent(td.Normal(parameters, distribution.log_std.exp()), 1)


# Log-probabilities and entropies


@pytest.mark.parametrize("name", SPACES)
def test_log_probabilities_and_entropies_are_torchs(name: str) -> None:
    distribution = make(name)
    parameters, actions, log_probs = draw(distribution, 50)
    got, entropies = distribution.log_prob_and_entropy(parameters, actions, None)
    expected = oracle(name, distribution, parameters)
    if isinstance(expected, list):
        wanted = torch.stack([part.log_prob(actions[:, i]) for i, part in enumerate(expected)]).sum(0)
        wanted_entropies = torch.stack([part.entropy() for part in expected]).sum(0)
    else:
        wanted = expected.log_prob(actions.double() if name.startswith("multi-binary") else actions)
        wanted_entropies = expected.entropy()
    for one, other in ((got, wanted), (log_probs, wanted), (entropies, wanted_entropies)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_sampling_and_evaluating_agree_over_any_leading_axes(name: str, squash: bool) -> None:
    distribution = make(name, squash)
    parameters = torch.randn(4, 3, distribution.num_parameters).double()
    actions, log_probs = sampled(distribution, parameters, None, torch.Generator().manual_seed(0))
    assert actions.shape == (4, 3, *distribution.action_shape)
    assert actions.dtype == (distribution.action_dtype or torch.float64)
    again, entropies = distribution.log_prob_and_entropy(parameters, actions, None)
    assert log_probs.shape == entropies.shape == (4, 3)
    torch.testing.assert_close(again, log_probs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SPACES if not name.startswith("box")])
def test_probabilities_of_all_actions_add_up_to_1(name: str) -> None:
    distribution = make(name)
    parameters = torch.randn(distribution.num_parameters).double()
    space = SPACES[name]
    if isinstance(space, spaces.Discrete):
        actions = torch.arange(int(space.n))
    else:
        sizes = space.nvec.reshape(-1).tolist() if isinstance(space, spaces.MultiDiscrete) else [2] * len(parameters)
        actions = torch.tensor(list(itertools.product(*map(range, sizes))))
    log_probs, entropies = distribution.log_prob_and_entropy(parameters.expand(len(actions), -1), actions, None)
    assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert float(-(log_probs.exp() * log_probs).sum()) == pytest.approx(float(entropies[0]), abs=1e-12)


@pytest.mark.parametrize("name", ["box", "box scalar"])
def test_the_density_of_a_squashed_gaussian_is_that_of_the_env_action(name: str) -> None:
    """exp(log p) is the density of the action the env sees, so it is p(u) du/da with a numerical slope."""
    distribution: Any = make(name, squash=True)
    parameters, stored, log_probs = draw(distribution, 200)
    low, high = (torch.as_tensor(np.reshape(bound, -1)).double() for bound in (SPACES[name].low, SPACES[name].high))

    def env_action(u: Tensor) -> Tensor:
        return low + (torch.tanh(u) + 1) / 2 * (high - low)

    step = 1e-5
    slope = (env_action(stored + step) - env_action(stored - step)) / (2 * step)
    before = td.Normal(parameters, distribution.log_std.exp()).log_prob(stored)
    torch.testing.assert_close(log_probs, (before - slope.log()).sum(-1), rtol=0, atol=1e-4)
    got = distribution.to_env(stored).reshape(200, -1)
    np.testing.assert_allclose(got, env_action(stored).numpy(), rtol=1e-5, atol=1e-5)


def test_the_squashed_density_agrees_with_torchs_transformed_distribution() -> None:
    distribution: Any = make("box matrix of float64", squash=True)
    parameters, stored, log_probs = draw(distribution, 100)
    scale = torch.full((4,), 0.4).double()
    shift = torch.full((4,), 0.3).double()
    transforms = [td.TanhTransform(), td.AffineTransform(shift, scale)]
    expected = td.TransformedDistribution(td.Normal(parameters, distribution.log_std.exp()), transforms)
    wanted = expected.log_prob(shift + scale * torch.tanh(stored)).sum(-1)
    torch.testing.assert_close(log_probs, wanted, rtol=0, atol=1e-5)


def test_far_out_in_the_squash_log_probabilities_and_gradients_stay_finite() -> None:
    distribution = make_distribution(SPACES["box scalar"], squash=True, scale=True, initial_log_std=0.0)
    parameters = torch.tensor([[0.0], [50.0]], requires_grad=True)
    log_probs, _ = distribution.log_prob_and_entropy(parameters, torch.tensor([[40.0], [60.0]]), None)
    (grad,) = torch.autograd.grad(log_probs.sum(), parameters)
    assert torch.isfinite(log_probs).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("logit", [1e4, -1e4])
@pytest.mark.parametrize("name", ["discrete", "multi-discrete", "multi-binary"])
def test_certain_choices_have_finite_entropies_and_gradients(name: str, logit: float) -> None:
    distribution = make(name)
    parameters = torch.zeros(1, distribution.num_parameters).double()
    parameters[0, 0] = logit
    parameters.requires_grad_()
    actions = distribution.mode(parameters, None)
    log_probs, entropies = distribution.log_prob_and_entropy(parameters, actions, None)
    (grad,) = torch.autograd.grad((log_probs + entropies).sum(), parameters)
    assert torch.isfinite(entropies).all()
    assert torch.isfinite(grad).all()


# Sampling


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    expected = probabilities * counts.sum()
    return float(((counts - expected).square() / expected).sum())


def test_categorical_frequencies_are_the_probabilities() -> None:
    distribution = make("discrete")
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0]).double()
    actions, _ = sampled(distribution, logits.expand(20_000, 4), None, torch.Generator().manual_seed(0))
    # Three degrees of freedom: 40 is passed by chance once in 10⁸ seeds.
    assert chi_square(actions.bincount(minlength=4).double(), logits.softmax(-1)) < 40


def test_choices_of_a_multi_discrete_action_are_independent_and_as_likely_as_said() -> None:
    distribution = make("multi-discrete")
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.5]).double()
    actions, _ = sampled(distribution, logits.expand(20_000, 5), None, torch.Generator().manual_seed(0))
    joint = torch.outer(logits[:2].softmax(-1), logits[2:].softmax(-1)).flatten()
    assert chi_square((actions[:, 0] * 3 + actions[:, 1]).bincount(minlength=6).double(), joint) < 45


def test_bits_are_independent_with_the_right_frequencies() -> None:
    distribution = make("multi-binary")
    logits = torch.tensor([0.0, 1.0, -2.0]).double()
    actions, _ = sampled(distribution, logits.expand(20_000, 3), None, torch.Generator().manual_seed(0))
    one = logits.sigmoid()
    cells = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    joint = torch.where(cells.bool(), one, 1 - one).prod(-1)
    assert chi_square((actions * torch.tensor([4, 2, 1])).sum(-1).bincount(minlength=8).double(), joint) < 55


def test_gaussian_actions_have_the_mean_and_the_deviation_of_the_parameters() -> None:
    distribution: Any = make("box without bounds")
    mean = torch.tensor([3.0, -1.0]).double()
    actions, _ = sampled(distribution, mean.expand(20_000, 2), None, torch.Generator().manual_seed(0))
    standardised = ((actions - mean) / distribution.log_std.exp()).detach()
    assert (standardised.mean(0).abs() < 0.05).all()  # Seven standard errors.
    assert ((standardised.std(0) - 1).abs() < 0.04).all()
    assert abs(float((standardised[:, 0] * standardised[:, 1]).mean())) < 0.05


@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_the_generator_alone_decides_what_is_drawn(name: str, squash: bool) -> None:
    distribution = make(name, squash)
    parameters = torch.randn(200, distribution.num_parameters).double()
    draws = []
    for seed, global_seed in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(global_seed)
        draws.append(sampled(distribution, parameters, None, torch.Generator().manual_seed(seed))[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPACES)
def test_noise_drawn_for_many_steps_is_that_of_as_many_single_draws(name: str, dtype: torch.dtype) -> None:
    distribution, like = make(name), torch.zeros(1, dtype=dtype)
    single, block = (torch.Generator().manual_seed(5) for _ in range(2))
    one_by_one = torch.stack([distribution.draw_noise((3,), single, like) for _ in range(17)])
    at_once = distribution.draw_noise((17, 3), block, like)
    assert at_once.shape == (17, 3, distribution.num_parameters)
    assert at_once.dtype == dtype
    assert torch.equal(at_once, one_by_one)
    assert torch.equal(single.get_state(), block.get_state())


@pytest.mark.parametrize("uniform", [0.0, 1 - 2.0**-53], ids=["least", "largest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPACES)
def test_no_number_that_may_be_drawn_makes_infinite_noise(
    name: str, dtype: torch.dtype, uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda size, **options: torch.full(size, uniform, dtype=options["dtype"]))
    noise = make(name).draw_noise((2,), torch.Generator(), torch.zeros(1, dtype=dtype))
    assert torch.isfinite(noise).all()
    assert noise.abs().min() > 3  # In the tail.


@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_no_action_is_likelier_than_the_mode_before_the_squash(name: str, squash: bool) -> None:
    distribution = make(name)
    parameters, actions, log_probs = draw(distribution, 500)
    best, _ = distribution.log_prob_and_entropy(parameters, distribution.mode(parameters, None), None)
    assert distribution.mode(parameters, None).shape == actions.shape
    assert (best >= log_probs).all()


# Masks


def random_mask(distribution: ActionDistribution, sizes: list[int], count: int) -> Tensor:
    """Forbid about half of the choices, but leave one of each."""
    mask = torch.rand(count, sum(sizes)) < 0.5
    begin = 0
    for size in sizes:
        mask[torch.arange(count), begin + torch.randint(size, (count,))] = True
        begin += size
    return mask


@pytest.mark.parametrize(("name", "sizes"), [("discrete", [4]), ("multi-discrete", [2, 3])])
def test_a_forbidden_action_has_no_probability_and_is_never_the_mode(name: str, sizes: list[int]) -> None:
    distribution = make(name)
    assert distribution.mask_size == sum(sizes)
    mask = random_mask(distribution, sizes, 5000)
    parameters, actions, log_probs = draw(distribution, 5000, mask)
    parameters = torch.where(mask, parameters, 20.0)  # The likeliest of all, were they allowed.
    drawn, _ = sampled(distribution, parameters, mask, torch.Generator().manual_seed(0))
    modes = distribution.mode(parameters, mask)
    starts = np.cumsum([0, *sizes[:-1]])
    for choices in (actions, drawn, modes):
        columns = choices.reshape(5000, -1) + torch.tensor(starts)
        assert mask.gather(1, columns).all()
    log_probs, entropies = distribution.log_prob_and_entropy(parameters, drawn, mask)
    wanted, wanted_entropies = torch.zeros(5000).double(), torch.zeros(5000).double()
    for row in range(100):
        for k, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            allowed = mask[row, start : start + size].nonzero().flatten()
            part = td.Categorical(logits=parameters[row, start : start + size][allowed])
            wanted[row] += part.log_prob((allowed == drawn.reshape(5000, -1)[row, k]).nonzero()[0, 0])
            wanted_entropies[row] += part.entropy()
    torch.testing.assert_close(log_probs[:100], wanted[:100], rtol=0, atol=1e-12)
    torch.testing.assert_close(entropies[:100], wanted_entropies[:100], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "sizes"), [("discrete", [4]), ("multi-discrete", [2, 3])])
def test_masked_entropies_and_gradients_are_finite_and_forbidden_logits_get_none(
    name: str, sizes: list[int], dtype: torch.dtype
) -> None:
    distribution = make(name)
    mask = random_mask(distribution, sizes, 300)
    parameters = torch.randn(300, sum(sizes), dtype=dtype, requires_grad=True)
    actions, _ = sampled(distribution, parameters.detach(), mask, torch.Generator().manual_seed(0))
    log_probs, entropies = distribution.log_prob_and_entropy(parameters, actions, mask)
    assert (entropies >= 0).all()
    (grad,) = torch.autograd.grad((log_probs + entropies).sum(), parameters)
    assert torch.isfinite(grad).all()
    assert not grad[~mask].any()


def test_a_single_allowed_action_is_certain() -> None:
    distribution = make("discrete")
    mask = torch.eye(4, dtype=torch.bool)
    parameters, actions, log_probs = draw(distribution, 4, mask)
    assert actions.tolist() == [0, 1, 2, 3]
    assert log_probs.tolist() == [0, 0, 0, 0]
    assert distribution.log_prob_and_entropy(parameters, actions, mask)[1].abs().max() == 0


@pytest.mark.parametrize("name", ["multi-binary", "box"])
def test_masks_make_no_sense_for_bits_and_numbers(name: str) -> None:
    assert make(name).mask_size is None


# What the env gets, and what the network sees


@pytest.mark.parametrize("scale", [0.1, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_every_drawn_action_lies_in_the_space(name: str, squash: bool, dtype: torch.dtype, scale: float) -> None:
    distribution = make(name, squash, initial_log_std=math.log(scale)).to(dtype)
    parameters = torch.randn(500, distribution.num_parameters, dtype=dtype) * scale
    actions, _ = sampled(distribution, parameters, None, torch.Generator().manual_seed(0))
    for stored in (actions, distribution.mode(parameters, None)):
        env_actions = distribution.to_env(stored.detach())
        assert env_actions.shape == (500, *(SPACES[name].shape or ()))
        assert env_actions.dtype == SPACES[name].dtype
        assert all(SPACES[name].contains(np.asarray(action)) for action in env_actions)


def test_env_actions_are_those_stored_with_start_and_shape_restored() -> None:
    assert make("discrete from -2").to_env(torch.tensor([0, 3])).tolist() == [-2, 1]
    stored = torch.tensor([[1, 2, 3, 0], [0, 0, 0, 0]])
    assert make("multi-discrete matrix").to_env(stored).tolist() == [[[6, 1], [3, 0]], [[5, -1], [0, 0]]]
    bits = torch.tensor([[0, 1, 1, 1, 0, 0]])
    assert make("multi-binary matrix").to_env(bits).tolist() == [[[0, 1, 1], [1, 0, 0]]]


def test_without_the_squash_numbers_are_clipped_to_the_bounds_and_stored_as_drawn() -> None:
    distribution = make("box")
    stored = torch.tensor([[-3.0, 0.25, 31.0], [0.5, 9.0, 3.0]]).double()
    assert distribution.to_env(stored).tolist() == [[-1, 0.25, 30], [0.5, 0.5, 3]]
    assert distribution.features(stored).tolist() == [[-1, 0.25, 30], [0.5, 0.5, 3]]


def test_with_the_squash_the_bounds_are_the_ends_of_tanh() -> None:
    distribution = make("box", squash=True)
    stored = torch.tensor([[-99.0, 0.0, 99.0]]).double()
    assert distribution.to_env(stored).tolist() == [[-1, 0.25, 30]]
    assert distribution.features(stored).tolist() == [[-1, 0, 1]]


def test_features_of_choices_are_one_hot_side_by_side() -> None:
    assert make("discrete from -2").features(torch.tensor([[0], [3]])).tolist() == [[[1, 0, 0, 0]], [[0, 0, 0, 1]]]
    assert make("multi-discrete").features(torch.tensor([1, 2])).tolist() == [0, 1, 0, 0, 1]
    assert make("multi-binary").features(torch.tensor([1, 0, 1])).tolist() == [1, 0, 1]


@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_features_have_the_width_that_is_announced(name: str, squash: bool) -> None:
    distribution = make(name, squash)
    _, actions, _ = draw(distribution, 6)
    features = distribution.features(actions.unflatten(0, (2, 3)))
    assert features.shape == (2, 3, distribution.num_features)
    assert torch.isfinite(features).all()


# Making


def test_the_initial_deviation_is_the_one_asked_for() -> None:
    distribution: Any = make_distribution(SPACES["box"], squash=False, scale=True, initial_log_std=-1.25)
    assert distribution.log_std.tolist() == [-1.25] * 3
    assert isinstance(distribution.log_std, torch.nn.Parameter)


def test_a_squash_needs_finite_bounds_but_not_for_choices() -> None:
    with pytest.raises(ValueError, match="squash_actions needs an action space with finite bounds; this is Box"):
        make_distribution(SPACES["box without bounds"], squash=True, scale=True, initial_log_std=0.0)
    make_distribution(SPACES["discrete"], squash=True, scale=True, initial_log_std=0.0)


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Dict({"a": spaces.Discrete(2)}), spaces.Box(0, 5, (2,), np.int64)], ids=str
)
def test_an_unsupported_action_space_is_named_with_those_supported(space: spaces.Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"is not supported\. Supported: Discrete, MultiDiscrete"):
        make_distribution(space, squash=False, scale=True, initial_log_std=0.0)


# Units

ASYMMETRIC = spaces.Box(np.float32([200, -0.01, 0, -np.inf, -3, 5]), np.float32([1000, 0.01, np.inf, 7, np.inf, 5]))


def make_asymmetric(scale: bool = True) -> Any:
    return make_distribution(ASYMMETRIC, squash=False, scale=scale, initial_log_std=0.0).double()


def test_finite_bounds_are_the_units_and_a_single_one_is_a_deviation_away() -> None:
    distribution = make_asymmetric()
    stored = torch.tensor([[0.0] * 6, [1.0] * 6, [-1.0] * 6, [0.5] * 6, [-9.0] * 6]).double()
    expected = [
        [600, 0, 1, 6, -2, 5],
        [1000, 0.01, 2, 7, -1, 5],
        [200, -0.01, 0, 5, -3, 5],
        [800, 0.005, 1.5, 6.5, -1.5, 5],
        [200, -0.01, 0, -3, -3, 5],
    ]
    assert distribution.to_env(stored) == pytest.approx(np.array(expected), rel=1e-6)
    assert distribution.to_env(stored).dtype == np.float32
    seen = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.0], [-1.0, -1.0, -1.0, -9.0, -1.0, 0.0]
    assert distribution.features(stored[[0, 3, 4]]).tolist() == list(map(list, seen))


def test_without_the_scale_the_units_are_the_envs() -> None:
    distribution = make_asymmetric(scale=False)
    stored = torch.tensor([[300.0, 0.005, 2.0, 3.0, 4.0, 5.0]]).double()
    assert distribution.to_env(stored) == pytest.approx(stored.numpy(), rel=1e-6)
    assert distribution.features(stored) == pytest.approx(stored.numpy(), rel=1e-6)


def test_large_units_lose_no_digits() -> None:
    space = spaces.Box(0.0, 1e6, (1,), np.float64)
    distribution: Any = make_distribution(space, squash=False, scale=True, initial_log_std=0.0)
    stored = torch.tensor([[0.25]], dtype=torch.float32)
    assert distribution.to_env(stored).tolist() == [[625_000.0]]


@pytest.mark.parametrize("bound", [np.inf, np.finfo(np.float32).max])
def test_the_largest_float_is_no_bound(bound: float) -> None:
    space = spaces.Box(-bound, bound, (2,), np.float32)
    distribution: Any = make_distribution(space, squash=False, scale=True, initial_log_std=0.0)
    assert distribution.to_env(torch.tensor([[3.0, -4.0]])).tolist() == [[3.0, -4.0]]


def test_a_squash_with_nothing_to_choose_in_one_dimension_is_finite() -> None:
    space = spaces.Box(np.float32([2, 5]), np.float32([4, 5]))
    distribution: Any = make_distribution(space, squash=True, scale=True, initial_log_std=0.0)
    stored = torch.tensor([[0.0, 0.7]])
    assert distribution.to_env(stored).tolist() == [[3.0, 5.0]]
    assert torch.isfinite(distribution.log_prob_and_entropy(torch.zeros(1, 2), stored, None)[0]).all()
    assert torch.isfinite(distribution.targets(np.float32([[3.5, 5.0]]))).all()


@pytest.mark.parametrize("squash", [False, True])
def test_targets_are_what_the_env_would_get_back(squash: bool) -> None:
    space = spaces.Box(np.float32([200, -0.01]), np.float32([1000, 0.01]))
    distribution: Any = make_distribution(space, squash=squash, scale=True, initial_log_std=0.0)
    answers = np.float32([[300, 0.002], [990, -0.009]])
    assert distribution.to_env(distribution.targets(answers)) == pytest.approx(answers, rel=1e-5)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_actions_are_clipped_where_the_env_gets_other_numbers(name: str, squash: bool, scale: bool) -> None:
    distribution: Any = make(name, squash, scale=scale)
    generator = torch.Generator().manual_seed(1)
    parameters = 3.0 * torch.randn(64, distribution.num_parameters, dtype=torch.float64, generator=generator)
    actions = sampled(distribution, parameters, None, generator)[0].detach()
    shares = distribution.clipped_share(actions)
    assert distribution.clipped_share(actions.unflatten(0, (8, 8))).shape == (8, 8)
    if squash or not name.startswith("box"):
        assert shares.tolist() == [0.0] * 64
        return
    given = distribution.targets(distribution.to_env(actions))
    clipped = ~torch.isclose(given, actions, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shares.double(), clipped.double().mean(-1), rtol=1e-6, atol=0)
    assert bool(shares.any()) == (name in BOUNDED)


def test_a_dimension_without_a_choice_is_not_counted_as_clipped() -> None:
    shares = make_asymmetric().clipped_share(torch.tensor([[0.0] * 5 + [3.0], [3.0] * 6]).double())
    assert shares.tolist() == pytest.approx([0.0, 3 / 6])


# Random actions


@pytest.mark.parametrize("squash", [False, True])
def test_random_numbers_are_uniform_between_finite_bounds(squash: bool) -> None:
    space = spaces.Box(np.float32([200, -0.01]), np.float32([1000, 0.01]))
    distribution: Any = make_distribution(space, squash=squash, scale=True, initial_log_std=1.5).at_random()
    parameters = torch.full((20_000, 2), 3.0)  # Whatever the network puts out.
    actions = distribution.sample(parameters, None, distribution.draw_noise((20_000,), torch.Generator(), parameters))
    drawn = distribution.to_env(actions)
    shares = [np.histogram(drawn[:, i], bins=10, range=(space.low[i], space.high[i]))[0] / 20_000 for i in range(2)]
    assert np.abs(np.array(shares) - 0.1).max() < 0.01
    assert distribution.clipped_share(actions).max() == 0
    assert torch.isfinite(distribution.log_prob_and_entropy(parameters, actions, None)[0]).all()


def test_random_numbers_without_bounds_are_standard_normal() -> None:
    distribution = make_asymmetric().at_random()
    parameters = torch.zeros(20_000, 6).double()
    drawn = distribution.sample(parameters, None, distribution.draw_noise((20_000,), torch.Generator(), parameters))
    for index in (2, 3, 4):
        assert drawn[:, index].mean().abs() < 0.03
        assert abs(drawn[:, index].std() - 1) < 0.03


@pytest.mark.parametrize("name", ["discrete", "multi-discrete", "multi-binary", "box"])
def test_what_is_random_has_no_likeliest_action_and_leaves_the_original(name: str) -> None:
    distribution = make(name)
    assert distribution.at_random().is_random
    assert not distribution.is_random


# Targets


@pytest.mark.parametrize(("name", "squash"), every_distribution())
def test_the_mode_of_a_target_is_the_action_that_it_is_of(name: str, squash: bool) -> None:
    distribution, space = make(name, squash), SPACES[name]
    space.seed(0)
    actions = np.stack([np.asarray(space.sample()) for _ in range(9)])
    back = distribution.to_env(distribution.mode(distribution.targets(actions), None))
    np.testing.assert_allclose(back, actions, rtol=1e-5, atol=1e-6)
