"""Losses: formulas by hand, and what stands where ``valid`` is False counts for nothing, not even as NaN."""

import math

import pytest
import torch

from rlstm.losses.policy_losses import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy_loss,
    masked_mean,
    masked_normalise,
    policy_gradient_loss,
)

VALID = torch.tensor([[True, True], [True, False], [False, False]])


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def padded(tensor, filling):
    return torch.where(VALID, tensor, filling)


def test_a_masked_mean_is_over_the_valid_steps():
    values = torch.tensor([[1.0, 2.0], [6.0, 100.0], [200.0, 300.0]])
    assert masked_mean(values, VALID).item() == 3.0


def test_normalised_values_have_mean_zero_and_deviation_one_over_the_valid_steps():
    values = padded(numbers(3, 2), 1e6)
    valid = masked_normalise(values, VALID)[VALID]
    assert valid.mean().item() == pytest.approx(0, abs=1e-12)
    assert valid.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_equal_advantages_normalise_to_zero_and_not_to_nan():
    assert masked_normalise(torch.full((3, 2), 5.0), VALID).tolist() == [[0.0] * 2] * 3


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "passes_gradient"),
    [
        (1.1, 2.0, 2.2, True),
        (1.5, 2.0, 2.4, False),  # A good action is not made ever likelier.
        (0.5, 2.0, 1.0, True),
        (1.5, -2.0, -3.0, True),
        (0.5, -2.0, -1.6, False),  # Nor a bad one ever less likely.
        (0.9, -2.0, -1.8, True),
    ],
)
def test_the_policy_loss_is_that_of_the_paper(ratio, advantage, surrogate, passes_gradient):
    log_prob = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    old = torch.zeros(1, 1, dtype=torch.float64)
    result = clipped_policy_loss(log_prob, old, torch.full_like(old, advantage), torch.ones(1, 1).bool(), 0.2)
    assert result.value.item() == pytest.approx(-surrogate)
    assert result.gradient.item() == pytest.approx(-surrogate if passes_gradient else 0.0)
    assert result.approx_kl.item() == pytest.approx(ratio - 1 - math.log(ratio))
    assert result.clip_fraction.item() == float(abs(ratio - 1) > 0.2)
    assert result.ratio_error.item() == pytest.approx(abs(ratio - 1))


@pytest.mark.parametrize(
    ("value", "clip_range", "error"),
    [(5.0, None, 2.0), (5.0, 10.0, 2.0), (5.0, 0.5, 2.5), (1.0, 0.5, 2.5), (0.25, 0.5, 2.75), (3.0, None, 0.0)],
)
def test_a_clipped_value_error_is_never_smaller_than_the_plain_one(value, clip_range, error):
    """The old value is 0 and the return 3: with a range of 1/2 a value of 5 is clipped to 1/2, 2.5 from the return."""
    one = torch.ones(1, 1, dtype=torch.float64)
    assert clipped_value_loss(value * one, 0 * one, 3 * one, one.bool(), clip_range).value.item() == 0.5 * error**2


@pytest.mark.parametrize(
    ("value", "clip_range", "loss", "gradient"),
    [
        (3.5, None, 0.125, 0.5),
        (2.0, None, 0.5, -1.0),
        (5.5, None, 2.0, 1.0),
        (1.0, None, 1.5, -1.0),
        (5.0, 0.5, 2.0, 0.0),  # Clipped to 1/2: its error of 2.5 is larger.
        (1.0, 5.0, 1.5, -1.0),
    ],
)
def test_the_huber_loss_grows_linearly_beyond_errors_of_one(value, clip_range, loss, gradient):
    one = torch.ones(1, 1, dtype=torch.float64)
    result = clipped_value_loss(value * one, 0 * one, 3 * one, one.bool(), clip_range, huber=True)
    assert (result.value.item(), result.gradient.item()) == (loss, gradient)


def test_the_huber_loss_is_pytorchs_and_its_gradient_autograds():
    values, returns = 3 * numbers(4, 5), numbers(4, 5, seed=1)
    values.requires_grad_()
    expected = torch.nn.functional.huber_loss(values, returns)
    (gradient,) = torch.autograd.grad(expected, values)
    result = clipped_value_loss(values.detach(), None, returns, None, None, huber=True)
    torch.testing.assert_close(result.value, expected.detach())
    torch.testing.assert_close(result.gradient, gradient)


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_invalid_steps_change_neither_the_policy_loss_nor_its_gradient(filling):
    results = []
    for fill in (0.0, filling):
        log_probs = padded(0.3 * numbers(3, 2), fill)
        old, advantages = padded(0.3 * numbers(3, 2, seed=1), -fill), padded(numbers(3, 2, seed=2), fill)
        advantages = masked_normalise(advantages, VALID)
        results.append(clipped_policy_loss(log_probs, old, advantages, VALID, 0.2))
    for zero, filled in zip(*results, strict=True):
        assert torch.equal(zero, filled)
    assert (results[1].gradient[~VALID] == 0).all()
    assert (results[1].gradient[VALID] != 0).any()


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("clip_range", "huber"), [(None, False), (0.2, False), (0.2, True)])
def test_invalid_steps_change_neither_the_value_loss_nor_its_gradient(filling, clip_range, huber):
    results = []
    for fill in (0.0, filling):
        values = padded(numbers(3, 2), fill)
        old, returns = padded(numbers(3, 2, seed=1), fill), padded(numbers(3, 2, seed=2), -fill)
        results.append(clipped_value_loss(values, old, returns, VALID, clip_range, huber=huber))
    for zero, filled in zip(*results, strict=True):
        assert torch.equal(zero, filled)
    assert (results[1].gradient[~VALID] == 0).all()


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_invalid_steps_change_neither_the_other_losses_nor_their_gradients(filling):
    results = []
    for fill in (0.0, filling):
        outputs, advantages = padded(numbers(3, 2), fill), padded(numbers(3, 2, seed=1), -fill)
        results.append((*policy_gradient_loss(outputs, advantages, VALID), *entropy_loss(outputs, VALID)))
    for zero, filled in zip(*results, strict=True):
        assert torch.equal(zero, filled)
    assert (results[1][1][~VALID] == 0).all()
    assert (results[1][3][~VALID] == 0).all()


def test_invalid_steps_that_count_would_change_the_loss():
    """The control: the same numbers under another mask give another loss."""
    log_probs, old, advantages = (numbers(3, 2, seed=seed) for seed in range(3))
    everything = torch.ones_like(VALID)
    assert (
        clipped_policy_loss(log_probs, old, advantages, VALID, 0.2).value
        != clipped_policy_loss(log_probs, old, advantages, everything, 0.2).value
    )


def test_a_loss_of_a_batch_with_padding_is_that_of_the_batch_cut_short():
    log_probs, old, advantages = (numbers(4, 2, seed=seed) for seed in range(3))
    valid = torch.tensor([[True, True], [True, True], [False, False], [False, False]])
    whole = clipped_policy_loss(log_probs, old, advantages, valid, 0.2)
    short = clipped_policy_loss(log_probs[:2], old[:2], advantages[:2], valid[:2], 0.2)
    whole = whole._replace(gradient=whole.gradient[:2])
    for padded_one, short_one in zip(whole, short, strict=True):
        torch.testing.assert_close(padded_one, short_one, rtol=1e-14, atol=0)


def test_no_mask_is_a_mask_that_is_true_everywhere():
    log_probs, old, advantages = (numbers(3, 2, seed=seed) for seed in range(3))
    everything = torch.ones_like(VALID)
    masked = clipped_policy_loss(log_probs, old, masked_normalise(advantages, everything), everything, 0.2)
    plain = clipped_policy_loss(log_probs, old, masked_normalise(advantages, None), None, 0.2)
    for one, other in zip(masked, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
    for clip_range in (None, 0.2):
        masked_value = clipped_value_loss(log_probs, old, advantages, everything, clip_range)
        plain_value = clipped_value_loss(log_probs, old, advantages, None, clip_range)
        for one, other in zip(masked_value, plain_value, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
    for masked, plain in (
        (policy_gradient_loss(log_probs, advantages, everything), policy_gradient_loss(log_probs, advantages, None)),
        (entropy_loss(old, everything), entropy_loss(old, None)),
    ):
        for one, other in zip(masked, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


@pytest.mark.parametrize("valid", [None, torch.rand(40, 5, generator=torch.Generator().manual_seed(3)) < 0.8])
@pytest.mark.parametrize("clip_range", [None, 0.3])
def test_the_gradients_in_closed_form_are_those_of_the_formulas(valid, clip_range):
    """Autograd differentiates the formulas as they are written in the sources."""
    outputs, old, other = (numbers(40, 5, seed=seed) for seed in range(3))
    old = 0.3 * old
    counted = torch.ones(40, 5).bool() if valid is None else valid
    ratio, value = lambda x: (x - old).exp(), lambda x: (x - other).square()
    clipped_value = (lambda x: value(x)) if clip_range is None else lambda x: value(old + (x - old).clamp(-0.3, 0.3))
    cases = {
        "surrogate": (
            clipped_policy_loss(outputs, old, other, valid, 0.2),
            lambda x: -torch.minimum(ratio(x) * other, ratio(x).clamp(0.8, 1.2) * other),
        ),
        "value": (
            clipped_value_loss(outputs, old, other, valid, clip_range),
            lambda x: 0.5 * torch.maximum(value(x), clipped_value(x)),
        ),
        "policy gradient": (policy_gradient_loss(outputs, other, valid), lambda x: -other * x),
        "entropy": (entropy_loss(outputs, valid), lambda x: -x),
    }
    for name, (loss, formula) in cases.items():
        differentiated = outputs.clone().requires_grad_()
        mean = formula(differentiated)[counted].mean()
        (expected,) = torch.autograd.grad(mean, differentiated)
        torch.testing.assert_close(loss.value, mean.detach(), rtol=1e-12, atol=0, msg=name)
        torch.testing.assert_close(loss.gradient, expected, rtol=1e-12, atol=1e-18, msg=name)
        assert not loss.gradient.requires_grad
        if name == "surrogate" or (name == "value" and clip_range is not None):  # Both branches occur.
            assert 0.05 < (expected[counted] == 0).double().mean() < 0.95
