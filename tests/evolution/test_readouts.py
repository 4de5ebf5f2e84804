"""Readouts: against numpy's solvers and hand-worked cases, on hard conditions, with weights, and what they refuse."""

import math
import sys

import numpy as np
import pytest
import torch

from rlstm.evolution import readouts
from rlstm.evolution.readouts import least_squares, ridge, svm

P, R, D, Y = 3, 40, 5, 2


def some(seed: int = 0, noise: float = 0.1):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((P, R, D), generator=generator, dtype=torch.float64) + 0.5
    weight = torch.randn((P, D, Y), generator=generator, dtype=torch.float64)
    targets = features @ weight + 1.5 + noise * torch.randn((P, R, Y), generator=generator, dtype=torch.float64)
    return features, targets, weight


def test_least_squares_finds_the_map_that_made_the_targets() -> None:
    features, targets, weight = some(noise=0.0)
    readout = least_squares(features, targets)
    assert torch.allclose(readout.weight, weight, rtol=0, atol=1e-12)
    assert torch.allclose(readout.bias, torch.full((P, 1, Y), 1.5, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(readout(features), targets, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_least_squares_is_numpys(weighted) -> None:
    features, targets, _ = some()
    weights = torch.rand((P, R), generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    readout = least_squares(features, targets, weights)
    for one in range(P):
        matrix = np.concatenate([features[one].numpy(), np.ones((R, 1))], axis=1)
        roots = np.ones((R, 1)) if weights is None else weights[one].sqrt().numpy()[:, None]
        expected = np.linalg.lstsq(matrix * roots, targets[one].numpy() * roots, rcond=None)[0]
        assert readout.weight[one].numpy() == pytest.approx(expected[:-1], abs=1e-11)
        assert readout.bias[one, 0].numpy() == pytest.approx(expected[-1], abs=1e-11)
        assert float(readout.condition[one]) == pytest.approx(np.linalg.cond(matrix * roots), rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_the_closed_form_with_a_free_bias_and_a_relative_penalty(weighted) -> None:
    features, targets, _ = some()
    weights = torch.rand(R, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    readout = ridge(features, targets, weights, strength=0.05)
    w = np.ones(R) if weights is None else weights.numpy()
    for one in range(P):
        phi, d = features[one].numpy(), targets[one].numpy()
        centred, target = phi - w @ phi / w.sum(), d - w @ d / w.sum()
        moments = centred.T @ (w[:, None] * centred)
        penalty = 0.05 * np.trace(moments) / D
        expected = np.linalg.solve(moments + penalty * np.eye(D), centred.T @ (w[:, None] * target))
        assert readout.weight[one].numpy() == pytest.approx(expected, abs=1e-11)
        assert readout.bias[one, 0].numpy() == pytest.approx(w @ d / w.sum() - w @ phi / w.sum() @ expected, abs=1e-11)


def test_the_penalty_means_the_same_at_every_scale_and_offset() -> None:
    features, targets, _ = some()
    plain, scaled = ridge(features, targets), ridge(1000 * features + 7, targets)
    assert torch.allclose(plain(features), scaled(1000 * features + 7), rtol=0, atol=1e-9)


def test_a_strong_penalty_leaves_the_mean_and_a_weak_one_least_squares() -> None:
    features, targets, _ = some()
    assert torch.allclose(ridge(features, targets, strength=1e12)(features), targets.mean(1, keepdim=True), atol=1e-9)
    weak, none = ridge(features, targets, strength=1e-13), least_squares(features, targets)
    assert torch.allclose(weak.weight, none.weight, rtol=0, atol=1e-9)


def test_rows_of_weight_0_are_as_if_they_were_not_there() -> None:
    features, targets, _ = some()
    weights = torch.ones(R, dtype=torch.float64)
    weights[10:] = 0.0
    spoilt = targets.clone()
    spoilt[:, 10:] = 1e6
    for solve in (least_squares, ridge):
        some_rows, all_rows = solve(features[:, :10], targets[:, :10]), solve(features, spoilt, weights)
        assert torch.allclose(some_rows.weight, all_rows.weight, rtol=0, atol=1e-9)
        assert torch.allclose(some_rows.bias, all_rows.bias, rtol=0, atol=1e-9)


def test_ill_conditioned_features_keep_the_digits_that_normal_equations_lose() -> None:
    """Singular values from 1 to 1e-11: squared, the smallest would be beyond float64."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn((60, 12), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn((12, 12), generator=generator, dtype=torch.float64))
    features = (left * torch.logspace(0, -11, 12, dtype=torch.float64)) @ right
    weight = torch.randn((12, 1), generator=generator, dtype=torch.float64)
    targets = features @ weight
    readout = least_squares(features[None], targets)
    assert float((readout(features[None]) - targets).abs().max()) < 1e-14
    assert float((readout.weight[0] - weight).abs().max()) < 1e-3
    normal = torch.linalg.solve(features.t() @ features, features.t() @ targets)
    assert float((normal - weight).abs().max()) > 0.1


def test_of_maps_that_are_as_good_the_smallest_is_taken() -> None:
    features, targets, _ = some()
    doubled = torch.cat([features, features], -1)
    readout, single = least_squares(doubled, targets), least_squares(features, targets)
    assert torch.allclose(readout.weight[:, :D], readout.weight[:, D:], rtol=0, atol=1e-9)
    assert torch.allclose(readout(doubled), single(features), rtol=0, atol=1e-9)


def test_fewer_rows_than_features_are_met_exactly() -> None:
    features, targets, _ = some()
    readout = least_squares(features[:, :3], targets[:, :3])
    assert torch.allclose(readout(features[:, :3]), targets[:, :3], rtol=0, atol=1e-11)


def test_dead_features_get_no_weight() -> None:
    features, targets, _ = some()
    features[:, :, 2] = 0.0
    for solve in (least_squares, ridge):
        readout = solve(features, targets)
        assert float(readout.weight[:, 2].abs().max()) < 1e-12
        assert (readout.condition == math.inf).all()
    nothing = ridge(torch.zeros(1, 4, 2), torch.arange(4.0)[:, None])
    assert float(nothing.weight.abs().max()) == 0.0
    assert float(nothing.bias) == 1.5


@pytest.mark.parametrize("offset", [0.1, 1e6])
def test_features_that_vary_by_rounding_alone_are_constant(offset) -> None:
    """Taught at the junction by a memory that has forgotten the sign."""
    features = torch.full((1, 50, 3), offset, dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(25)
    features[0, :, 1] += sign * offset * 1e-15
    readout = ridge(features, sign[:, None])
    assert not readout.weight.any()
    assert float(readout.bias.abs()) < 1e-12
    assert float(readout.condition) == math.inf
    features[0, :, 2] += sign * offset * 1e-6  # That much is a memory.
    assert float((ridge(features, sign[:, None])(features)[0, :, 0] * sign).min()) > 0.9


def test_with_many_rows_the_rounding_of_sums_is_no_direction() -> None:
    """10,000 rows round to about 2e-14 of the largest singular value; one of 5e-15 says nothing."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((10_000, 2), generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(rows - rows.mean(0))
    features = (basis * torch.tensor([100.0, 5e-13], dtype=torch.float64)).unsqueeze(0)
    readout = least_squares(features, basis[:, 1:])
    assert float(readout.weight.abs().max()) < 1.0
    assert float(readout.condition) == math.inf
    assert float(least_squares(features, basis[:, 1:], rcond=1e-15).weight[0, 1]) == pytest.approx(2e12, rel=0.5)
    few = least_squares(features[:, :50] * 14.0, basis[:50, 1:])
    assert float(few.condition) < math.inf


def test_a_condition_is_infinite_where_rows_do_not_span_the_features() -> None:
    features, targets, _ = some()
    for solve in (least_squares, ridge):
        assert (solve(features[:, :3], targets[:, :3]).condition == math.inf).all()
        assert solve(features, targets).condition.isfinite().all()


def test_a_network_that_exploded_says_nothing_and_the_others_are_right() -> None:
    features, targets, _ = some()
    for solve in (least_squares, ridge):
        right = solve(features, targets)
        exploded = features.clone()
        exploded[1, 7, 2] = math.nan
        readout = solve(exploded, targets)
        assert readout.weight[1].isnan().all()
        assert readout(features)[1].isnan().all()
        assert readout.condition[1] == math.inf
        for one in (0, 2):
            assert torch.equal(readout.weight[one], right.weight[one])


def test_rows_without_a_target_may_hold_nan() -> None:
    features, targets, _ = some()
    weights = torch.ones(R, dtype=torch.float64)
    weights[5] = 0.0
    targets[:, 5] = math.nan
    features[:, 5] = math.inf
    for solve in (least_squares, ridge):
        assert solve(features, targets, weights).weight.isfinite().all()


def test_targets_are_shared_or_each_networks_own() -> None:
    features, targets, _ = some()
    shared = least_squares(features, targets[0])
    each = least_squares(features, targets[:1].expand(P, -1, -1))
    assert torch.equal(shared.weight, each.weight)


@pytest.mark.parametrize("solve", [least_squares, ridge])
@pytest.mark.parametrize("shared", [False, True])
def test_a_network_is_solved_as_it_would_be_alone(solve, shared, monkeypatch) -> None:
    features, targets, _ = some()
    features[1, 3, 2] = math.inf
    targets = targets[0] if shared else targets
    weights = torch.rand((P, R), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = solve(features, targets, weights)
    monkeypatch.setattr(readouts, "_CHUNK", 1)
    for one, other in zip(together, solve(features, targets, weights), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=0, equal_nan=True)
    assert together.weight.isnan().all((1, 2)).tolist() == [False, True, False]


def test_float32_is_solved_in_float64() -> None:
    features, targets, _ = some()
    assert least_squares(features.float(), targets.float()).weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": torch.zeros(4, 2)}, r"features have the shape \(4, 2\)"),
        ({"targets": torch.zeros(P, R - 1, Y)}, rf"targets have the shape \(3, 39, 2\); it must be \({R}, outputs\)"),
        ({"targets": torch.zeros(R)}, "targets have the shape"),
        ({"weights": torch.ones(R + 1)}, f"one for each of {R} rows"),
        ({"weights": -torch.ones(R)}, r"weights lie in -1\.0 to -1\.0; they must be 0 or more"),
        ({"targets": torch.full((R, Y), math.nan)}, "A target is not finite"),
        ({"targets": torch.full((R, Y), math.inf)}, "A target is not finite; give its row the weight 0"),
        ({"weights": torch.full((R,), math.nan)}, "weights lie in nan to nan"),
        ({"features": torch.zeros(P, 0, D), "targets": torch.zeros(0, Y)}, r"shape \(3, 0, 5\).* none 0"),
        ({"features": torch.zeros(P, R, 0)}, r"shape \(3, 40, 0\).* none 0"),
    ],
)
@pytest.mark.parametrize("solve", [least_squares, ridge])
def test_what_can_not_be_solved_is_refused(solve, change, told) -> None:
    features, targets, _ = some()
    arguments = {"features": features, "targets": targets, "weights": None, **change}
    with pytest.raises(ValueError, match=told):
        solve(**arguments)


def test_a_penalty_of_nothing_is_refused() -> None:
    features, targets, _ = some()
    with pytest.raises(ValueError, match=r"strength is 0\.0; it must be positive"):
        ridge(features, targets, strength=0.0)


def machines(**options):
    """Support vectors, where scikit-learn is installed."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'rlstm-torch[svm]'")
    return lambda *arguments: svm(*arguments, **options)


def test_support_vectors_find_the_map_despite_outliers() -> None:
    features, targets, weight = some(noise=0.0)
    targets[:, ::8] += 30.0
    readout = machines(cost=1e3, epsilon=0.0)(features, targets)
    assert torch.allclose(readout.weight, weight, rtol=0, atol=0.02)
    assert torch.allclose(readout.bias, torch.full((P, 1, Y), 1.5, dtype=torch.float64), rtol=0, atol=0.02)
    assert not torch.allclose(least_squares(features, targets).weight, weight, rtol=0, atol=1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_no_map_nearby_costs_less_than_that_of_support_vectors(weighted) -> None:
    """The objective is convex, so a minimum among neighbours is the minimum; with the bias free."""
    features, targets, _ = some(noise=1.0)
    targets = torch.stack([targets[..., 0], torch.where(targets[..., 1] > 2.0, 1.0, -1.0)], -1)
    weights = torch.ones(R, dtype=torch.float64)
    if weighted:
        weights = torch.rand(R, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    readout = machines(cost=0.7, epsilon=0.2)(features, targets, weights)
    w = (weights / weights.sum()).unsqueeze(1)
    scale = (features - (w * features).sum(1, keepdim=True)).square().mul(w).sum(1, keepdim=True).mean(2, keepdim=True)
    moments = (targets[..., :1] - (w * targets[..., :1]).sum(1, keepdim=True)).square().mul(w).sum(1, keepdim=True)
    scale, spread = scale.sqrt(), moments.sqrt()

    def cost(weight, bias):
        outputs = features @ weight + bias
        errors = ((outputs[..., 0] - targets[..., 0]).abs() / spread[..., 0] - 0.2).clamp(min=0)
        sides = (1 - outputs[..., 1] * targets[..., 1]).clamp(min=0)
        sizes = (weight * scale).square().sum(1) / 2
        return torch.stack([sizes[:, 0] / spread[:, 0, 0] ** 2, sizes[:, 1]], 1) + 0.7 * torch.stack(
            [(weights * errors).sum(1), (weights * sides).sum(1)], 1
        )

    least = cost(readout.weight, readout.bias)
    generator = torch.Generator().manual_seed(2)
    for _ in range(60):
        moves = [0.03 * torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in readout[:2]]
        assert (cost(readout.weight + moves[0], readout.bias + moves[1]) > least - 1e-3).all()


def test_support_vectors_mean_the_same_at_every_scale_and_offset() -> None:
    features, targets, _ = some()
    one, other = machines()(features, targets), machines()(100 * features + 7, 0.01 * targets - 3)
    assert torch.allclose(0.01 * one.weight, 100 * other.weight, rtol=0, atol=1e-4)
    assert torch.allclose(0.01 * one(features) - 3, other(100 * features + 7), rtol=0, atol=1e-4)


def test_a_row_of_weight_2_is_as_good_as_two_rows_to_support_vectors() -> None:
    features, targets, _ = some()
    targets = torch.where(targets > 1, 1.0, -1.0)
    twice = torch.cat([features, features[:, :10]], 1), torch.cat([targets, targets[:, :10]], 1)
    weights = torch.ones(R).index_fill(0, torch.arange(10), 2.0)
    one, other = machines()(features, targets, weights), machines()(*twice)
    assert torch.allclose(one.weight, other.weight, rtol=0, atol=1e-2)


def test_support_vectors_without_anything_to_tell_apart_say_what_all_targets_are() -> None:
    features, _, _ = some()
    targets = torch.tensor([-1.0, 3.0]).expand(R, 2)
    readout = machines()(features, targets)
    assert not readout.weight.any()
    assert torch.equal(readout.bias, torch.tensor([-1.0, 3.0], dtype=torch.float64).expand(P, 1, 2))
    constant = machines()(torch.full((1, R, 2), 0.1), torch.arange(R).unsqueeze(1))
    assert not constant.weight.any()
    assert constant.bias.item() == pytest.approx((R - 1) / 2)
    assert constant.condition.item() == math.inf
    assert not machines()(features, targets, torch.zeros(R)).weight.any()


def test_rows_of_weight_0_and_networks_that_exploded_are_left_out_of_support_vectors() -> None:
    features, targets, _ = some()
    weights = torch.ones(R).index_fill(0, torch.arange(5), 0.0)
    features[:, 2], targets[:, 3], features[1, 20] = math.nan, math.inf, math.nan
    readout = machines()(features, targets, weights)
    alone = machines()(features[2:, 5:], targets[2:, 5:])
    assert readout.weight[1].isnan().all()
    assert readout.condition[1] == math.inf
    assert torch.allclose(readout.weight[2:], alone.weight, rtol=0, atol=1e-9)
    assert torch.allclose(readout.condition[2:], alone.condition, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("options", "told"), [({"cost": 0.0}, r"cost is 0\.0"), ({"epsilon": -1.0}, r"epsilon is -1")])
def test_support_vectors_with_options_out_of_range_are_refused(options, told) -> None:
    features, targets, _ = some()
    with pytest.raises(ValueError, match=told):
        svm(features, targets, **options)


def test_without_scikit_learn_support_vectors_say_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    features, targets, _ = some()
    with pytest.raises(ImportError, match=r"pip install 'rlstm-torch\[svm\]'"):
        svm(features, targets)
