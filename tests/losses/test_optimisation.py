"""One step down a gradient: what is clipped, what is refused, and rates that change over a run."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rlstm.core.errors import NonFiniteError
from rlstm.losses.optimisation import Descent, Term, annealed


def loss_and_norm(metrics):
    return metrics["loss"], metrics["grad_norm"]


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


def terms(**losses: torch.Tensor) -> dict[str, Term]:
    """Terms of losses that autograd has a record of."""
    return {name: Term(loss, loss.detach(), torch.ones_like(loss)) for name, loss in losses.items()}


def make_model(max_grad_norm: float = 10.0):
    """y = 3a + 4b: its gradient with respect to (a, b) is (3, 4), of norm 5."""
    model = nn.ParameterDict({"a": nn.Parameter(torch.tensor(1.0)), "b": nn.Parameter(torch.tensor(2.0))})
    descent = Descent(model.named_parameters(), max_grad_norm=max_grad_norm)
    descent.learning_rate = 0.5
    return model, descent


@pytest.mark.parametrize(("max_grad_norm", "scale"), [(10.0, 1.0), (5.0, 1.0), (2.5, 0.5), (0.05, 0.01)])
def test_a_gradient_above_the_norm_is_shortened_to_it_and_one_below_is_left(max_grad_norm, scale):
    model, descent = make_model(max_grad_norm)
    loss, norm = loss_and_norm(descent.step(terms(loss=3 * model["a"] + 4 * model["b"]), "update 7"))
    assert (loss.item(), norm.item()) == (11.0, 5.0)  # The norm before clipping.
    assert model["a"].grad.item() == pytest.approx(3 * scale, rel=1e-5)
    assert model["b"].grad.item() == pytest.approx(4 * scale, rel=1e-5)


def test_what_is_descended_is_the_weighted_sum():
    model, descent = make_model()
    both = {
        "first": Term(model["a"], torch.tensor(2.0), torch.tensor(3.0)),
        "second": Term(model["b"], torch.tensor(10.0), torch.tensor(8.0), 0.5),
        "third": Term(model["b"], torch.tensor(100.0), torch.tensor(float("nan")), 0.0),  # Differentiated by nobody.
    }
    loss, norm = loss_and_norm(descent.step(both, "update 7"))
    assert (loss.item(), norm.item()) == (2.0 + 5.0, 5.0)
    assert (model["a"].grad.item(), model["b"].grad.item()) == (3.0, 4.0)


def test_gradients_do_not_add_up_from_step_to_step():
    model, descent = make_model()
    for _ in range(2):
        assert descent.step(terms(loss=3 * model["a"] + 4 * model["b"]), "update 7")["grad_norm"].item() == 5.0


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_decay_is_that_of_adamw(weight_decay):
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    descent = Descent(ours.named_parameters(), max_grad_norm=1e9, weight_decay=weight_decay)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.05, eps=1e-5, weight_decay=weight_decay)
    descent.learning_rate = 0.05
    for seed in range(5):
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        outputs = ours(inputs)
        descent.step({"loss": Term(outputs, outputs.detach().sum(), torch.ones_like(outputs))}, "update 7")
        optimizer.zero_grad()
        theirs(inputs).sum().backward()
        optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_parameters_that_no_loss_ever_reached_stay():
    model, descent = make_model()
    for _ in range(2):
        assert descent.step(terms(loss=3 * model["a"]), "update 7")["grad_norm"].item() == 3.0
    assert model["a"].item() < 0.5
    assert model["b"].item() == 2.0


def test_parameters_apart_take_steps_of_their_own_with_their_own_norm():
    model = nn.ParameterDict({name: nn.Parameter(torch.tensor(1.0)) for name in ("a", "b", "c")})
    descent = Descent(model.named_parameters(), max_grad_norm=100.0, apart=("b",))
    descent.learning_rate = 0.5
    before = {name: value.item() for name, value in model.items()}
    loss, norm = loss_and_norm(descent.step(terms(loss=3 * model["a"] + 4 * model["c"]), "update 7"))
    assert norm.item() == 5.0
    assert model["b"].item() == before["b"]
    held = {name: model[name].item() for name in ("a", "c")}
    assert descent.state_dict()["state"].keys() == {0, 2}
    loss, norm = loss_and_norm(descent.step(terms(loss=12 * model["b"] + model["a"]), "update 7", apart=True))
    assert loss.item() == pytest.approx(12.0 + held["a"])
    assert norm.item() == 12.0
    assert model["b"].item() == pytest.approx(0.5)
    assert {name: model[name].item() for name in ("a", "c")} == held  # No step, not even by the averages.
    states = descent.state_dict()["state"]
    assert list(states) == [0, 1, 2]
    assert states[1]["exp_avg"].item() == pytest.approx(1.2)
    assert descent.step(terms(loss=0 * model["a"]), "update 7")["grad_norm"].item() == 0.0
    assert [parameter.grad.item() for parameter in model.values()] == [0.0] * 3  # What the steps before left is gone.


@pytest.mark.parametrize(("anneal", "final", "expected"), [(True, 0.0, (0.06, 0.03)), (False, None, (0.08, 0.04))])
def test_rate_and_entropy_weight_follow_the_schedule(anneal, final, expected):
    config = SimpleNamespace(learning_rate=0.08, anneal_lr=anneal, ent_coef=0.04, final_ent_coef=final)
    _, descent = make_model()
    assert descent.schedule(config, 0.25) == pytest.approx(expected)
    assert descent.learning_rate == pytest.approx(expected[0])
    descent.schedule(config, 7.0)  # Beyond the end it stays there.
    assert descent.learning_rate == (0.0 if anneal else 0.08)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_refused_by_the_part_that_is_to_blame(bad):
    model, descent = make_model()
    with pytest.raises(NonFiniteError, match=r"^Not finite in update 7: second\.$"):
        descent.step(terms(first=3 * model["a"], second=bad * model["b"]), "update 7")
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused_by_its_parameter(bad):
    model, descent = make_model()
    model["b"].register_hook(lambda gradient: gradient * bad)
    with pytest.raises(NonFiniteError, match=r"^Not finite in update 7: the gradient of b\.$"):
        descent.step(terms(loss=3 * model["a"] + 4 * model["b"]), "update 7")
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)


def test_gradients_that_are_finite_alone_but_not_together_are_refused():
    model, descent = make_model()
    with pytest.raises(NonFiniteError, match="the gradient of all parameters together"):
        descent.step(terms(loss=2e37 * (3 * model["a"] + 4 * model["b"])), "update 7")
    assert (model["a"].item(), model["b"].item()) == (1.0, 2.0)


def make_module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()


def make_descent(module: torch.nn.Module) -> Descent:
    descent = Descent(module.named_parameters(), max_grad_norm=0.5)
    descent.learning_rate = 0.1
    return descent


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
        _, norm = loss_and_norm(descent.step(terms(loss=loss), "update 0"))
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
        descent.step(terms(loss=loss), "update 0")
    state, before = copy.deepcopy(descent.state_dict()), copy.deepcopy(module.state_dict())
    adam.load_state_dict({**adam.state_dict(), **state})
    for parameter, kept in adam.state.items():
        assert kept["exp_avg"].shape == kept["exp_avg_sq"].shape == parameter.shape
        assert float(kept["step"]) == 4
    loaded = make_descent(make_module())
    loaded.load_state_dict(adam.state_dict())  # As earlier versions stored it.
    for one, other in zip(loaded.state_dict()["state"].values(), state["state"].values(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
    ends = []
    for _ in range(2):
        again = make_module()
        other = make_descent(again)
        again.load_state_dict(before)
        other.load_state_dict(state)
        for loss in losses(again, seed=2):
            other.step(terms(loss=loss), "update 1")
        ends.append(weights(again))
    for loss in losses(module, seed=2):
        descent.step(terms(loss=loss), "update 1")
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], weights(module))


def test_a_copy_of_a_descent_trains_the_copy_alone() -> None:
    module = make_module()
    descent = make_descent(module)
    before = weights(module)
    copied, other = copy.deepcopy((module, descent))
    for loss, same in zip(losses(copied), losses(module), strict=True):
        other.step(terms(loss=loss), "update 0")
        assert same.requires_grad
    assert torch.equal(weights(module), before)
    for loss in losses(module):
        descent.step(terms(loss=loss), "update 0")
    torch.testing.assert_close(weights(copied), weights(module), rtol=0, atol=0)


def test_a_descent_names_what_is_not_finite_and_leaves_the_weights() -> None:
    module = make_module()
    descent, before = make_descent(module), weights(module)
    with pytest.raises(NonFiniteError, match=r"update 3: value_loss"):
        descent.step(terms(value_loss=module[0].weight.sum() * float("inf")), "update 3")
    x = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match=r"update 4: the gradient of 0\.weight"):
        descent.step(terms(loss=module(x).sum() * 0 + (module[0].weight * 0).abs().sqrt().sum()), "update 4")
    assert torch.equal(weights(module), before)


def test_a_step_imports_none_of_what_pytorch_compiles_with() -> None:
    """Which takes seconds: ``torch.optim`` imports it, and so does ``backward`` with gradients of its own."""
    code = (
        "import sys, torch; from rlstm.losses.optimisation import Descent, Term\n"
        "module = torch.nn.Linear(2, 3); descent = Descent(module.named_parameters(), max_grad_norm=1.0)\n"
        "outputs = module(torch.ones(4, 2)); gradient = torch.ones(4, 3)\n"
        "descent.step({'loss': Term(outputs, outputs.sum().detach(), gradient, 0.5)}, 'update 0')\n"
        "print(*(name for name in ('torch._dynamo', 'sympy') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
