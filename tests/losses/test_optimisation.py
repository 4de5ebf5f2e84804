"""One step down a gradient: what is clipped, what is refused, and rates that change over a run."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from rlstm.core.errors import NonFiniteError
from rlstm.losses.optimisation import Descent, annealed, descend, set_learning_rate


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


def make_module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()


def make_descent(module: torch.nn.Module) -> Descent:
    return Descent(module.named_parameters(), learning_rate=0.1, max_grad_norm=0.5)


def losses(module: torch.nn.Module, count: int = 4, seed: int = 1) -> Iterator[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    for scale in range(count):  # The first gradients are not clipped, the later ones are.
        yield scale * module(torch.randn(7, 3, generator=rng, dtype=torch.float64)).square().sum() / 20


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_a_descent_is_adam_with_the_gradient_clipped_by_its_global_norm() -> None:
    ours, theirs = make_module(), make_module()
    descent, adam = make_descent(ours), torch.optim.Adam(theirs.parameters(), lr=0.1, eps=1e-5)
    clipped = []
    for loss, other in zip(losses(ours), losses(theirs), strict=True):
        norm = descent.step(loss, {}, "update 0")
        clipped.append(float(norm) > 0.5)
        adam.zero_grad()
        other.backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        adam.step()
        assert float(norm) == pytest.approx(float(expected), abs=1e-12)
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-12)
    assert {False, True} == set(clipped)


def test_the_state_of_a_descent_is_adams_and_goes_on_exactly() -> None:
    module = make_module()
    descent, adam = make_descent(module), torch.optim.Adam(module.parameters(), lr=0.1, eps=1e-5)
    assert descent.state_dict()["state"] == {}
    for loss in losses(module):
        descent.step(loss, {}, "update 0")
    state, before = copy.deepcopy(descent.state_dict()), copy.deepcopy(module.state_dict())
    adam.load_state_dict(state)
    for parameter, kept in adam.state.items():
        assert kept["exp_avg"].shape == kept["exp_avg_sq"].shape == parameter.shape
        assert float(kept["step"]) == 4
    ends = []
    for _ in range(2):
        again = make_module()
        other = make_descent(again)
        again.load_state_dict(before)
        other.load_state_dict(state)
        for loss in losses(again, seed=2):
            other.step(loss, {}, "update 1")
        ends.append(weights(again))
    for loss in losses(module, seed=2):
        descent.step(loss, {}, "update 1")
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], weights(module))


def test_a_copy_of_a_descent_trains_the_copy_alone() -> None:
    module = make_module()
    descent = make_descent(module)
    before = weights(module)
    copied, other = copy.deepcopy((module, descent))
    for loss, same in zip(losses(copied), losses(module), strict=True):
        other.step(loss, {}, "update 0")
        assert same.requires_grad
    assert torch.equal(weights(module), before)
    for loss in losses(module):
        descent.step(loss, {}, "update 0")
    torch.testing.assert_close(weights(copied), weights(module), rtol=0, atol=0)


def test_a_descent_names_what_is_not_finite_and_leaves_the_weights() -> None:
    module = make_module()
    descent, before = make_descent(module), weights(module)
    with pytest.raises(NonFiniteError, match=r"update 3: value_loss"):
        descent.step(torch.tensor(float("nan")), {"value_loss": torch.tensor(float("inf"))}, "update 3")
    x = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match=r"update 4: the gradient of 0\.weight"):
        descent.step((module(x).sum() * 0 + (module[0].weight * 0).abs().sqrt().sum()), {}, "update 4")
    assert torch.equal(weights(module), before)
