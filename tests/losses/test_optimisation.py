"""One step down a gradient: what is clipped, what is refused, and rates that change over a run."""

import pytest
import torch
from torch import nn

from rlstm.core.errors import NonFiniteError
from rlstm.losses.optimisation import annealed, descend, set_learning_rate


@pytest.mark.parametrize(
    ("start", "end", "progress", "expected"),
    [
        (8.0, 0.0, 0.0, 8.0),
        (8.0, 0.0, 0.25, 6.0),
        (8.0, 0.0, 1.0, 0.0),
        (1.0, 3.0, 0.5, 2.0),
        (8.0, None, 0.0, 8.0),
        (8.0, None, 0.75, 8.0),
    ],
)
def test_a_rate_goes_linearly_from_its_start_to_its_end_and_stays_without_one(start, end, progress, expected):
    assert annealed(start, end, progress) == expected


def make_model():
    """y = 3a + 4b at x = 1: the gradient of y with respect to (a, b) is (3, 4), of norm 5."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.tensor(1.0)), "b": nn.Parameter(torch.tensor(2.0))})
    return model, 3 * model["a"] + 4 * model["b"]


def step(model, loss, max_grad_norm, **parts):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    parts = parts or {"loss": loss}
    return descend(
        optimizer, model.named_parameters(), loss, parts, max_grad_norm=max_grad_norm, place="update 7"
    ).item()


@pytest.mark.parametrize(("max_grad_norm", "scale"), [(10.0, 1.0), (5.0, 1.0), (2.5, 0.5), (0.05, 0.01)])
def test_a_gradient_above_the_norm_is_shortened_to_it_and_one_below_is_left(max_grad_norm, scale):
    model, loss = make_model()
    assert step(model, loss, max_grad_norm) == 5.0  # The norm before clipping.
    assert model["a"].item() == pytest.approx(1 - 3 * scale, abs=1e-5)
    assert model["b"].item() == pytest.approx(2 - 4 * scale, abs=1e-5)


def test_gradients_do_not_add_up_from_step_to_step():
    model, loss = make_model()
    step(model, loss, 10.0)
    assert step(model, 3 * model["a"] + 4 * model["b"], 10.0) == 5.0


def test_parameters_that_the_loss_does_not_reach_stay():
    model, _ = make_model()
    assert step(model, 3 * model["a"], 10.0) == 3.0
    assert model["b"].item() == 2.0


def test_every_group_gets_the_learning_rate():
    model, _ = make_model()
    optimizer = torch.optim.SGD([{"params": [model["a"]], "lr": 1.0}, {"params": [model["b"]], "lr": 2.0}])
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    descend(
        optimizer,
        model.named_parameters(),
        3 * model["a"] + 4 * model["b"],
        {},
        max_grad_norm=10.0,
        place="update 0",
    )
    assert (model["a"].item(), model["b"].item()) == (0.25, 1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_refused_by_the_part_that_is_to_blame(bad):
    model, loss = make_model()
    part = loss * bad
    with pytest.raises(NonFiniteError, match=r"^Not finite in update 7: second\.$"):
        step(model, loss + part, 1.0, first=loss, second=part)
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)
    assert model["a"].grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused_by_its_parameter(bad):
    model, loss = make_model()
    model["b"].register_hook(lambda gradient: gradient * bad)
    with pytest.raises(NonFiniteError, match=r"^Not finite in update 7: the gradient of b\.$"):
        step(model, loss, 1.0)
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)


def test_gradients_that_are_finite_alone_but_not_together_are_refused():
    model, loss = make_model()
    with pytest.raises(NonFiniteError, match="the gradient of all parameters together"):
        step(model, loss * 2e37, 1.0)
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)
