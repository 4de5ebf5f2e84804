"""The decoupled extended Kalman filter: its equations, its derivatives, what is measured, and what is refused."""

import copy
import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from rlstm.cells import CELLS
from rlstm.core.errors import NonFiniteError
from rlstm.core.memory_boundaries import InputsConfig
from rlstm.losses.kalman import KalmanConfig, KalmanTeacher
from rlstm.losses.kalman.covariance import GroupCovariances, check_memory
from rlstm.losses.kalman.derivatives import AnyDerivatives
from rlstm.losses.kalman.lstm_derivatives import LSTMDerivatives, is_lstm
from rlstm.losses.kalman.measurements import Measurement
from rlstm.losses.kalman.weights import TrainedWeights
from rlstm.policies.inputs import PolicyInputs
from tests.kit import make_policy

SYMBOLS, SETS = gym.spaces.Discrete(5), gym.spaces.MultiDiscrete([2] * 3)


def small_policy(cell="peephole_lstm", **options):
    """A policy whose derivatives are written by hand: 3 units read one of 5 symbols."""
    return make_policy(SYMBOLS, SETS, cell=cell, **{"hidden_size": 3, "encoder_sizes": (), **options})


def sequences(policy, steps=9, count=2, *, resets=((0, 0), (0, 1), (4, 1)), seed=0):
    """Return inputs, ``is_first``, targets ±1 and weights of 1."""
    draws = torch.Generator().manual_seed(seed)
    if isinstance(policy.observation_space, gym.spaces.Discrete):
        seen = torch.randint(0, int(policy.observation_space.n), (steps, count), generator=draws)
    else:
        seen = torch.randn(steps, count, *policy.observation_space.shape, generator=draws)
    is_first = torch.zeros(steps, count, dtype=torch.bool)
    for t, sequence in resets:
        is_first[t, sequence] = True
    signs = torch.randint(0, 2, (steps, count, policy.distribution.num_parameters), generator=draws)
    return PolicyInputs(seen), is_first, 2.0 * signs.double() - 1.0, torch.ones(steps, count, dtype=torch.float64)


def run(derivatives, weights, inputs, is_first, sequence=0):
    """Return outputs ``(T, P)`` and their derivatives ``(T, P, N)`` at fixed weights."""
    derivatives.read(inputs, is_first)
    derivatives.begin(sequence)
    steps = [derivatives.step(weights, t) for t in range(len(is_first))]
    return np.stack([outputs for outputs, _ in steps]), np.stack([by for _, by in steps])


def by_autograd(policy, outputs):
    """Return the gradients of outputs ``(P,)`` with respect to the trained weights, ``(P, N)``."""
    parameters = list(TrainedWeights(policy).parameters.values())
    rows = [torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True) for one in outputs]
    filled = [[torch.zeros_like(p) if g is None else g for g, p in zip(row, parameters, strict=True)] for row in rows]
    return np.stack([torch.cat([g.reshape(-1) for g in row]).numpy() for row in filled])


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm"])
def test_both_ways_agree_to_the_last_digits(cell):
    policy = small_policy(cell)
    weights = TrainedWeights(policy)
    inputs, is_first, *_ = sequences(policy)
    for sequence in range(2):
        ways = [AnyDerivatives(policy, weights), LSTMDerivatives(policy, weights, "full")]
        slow, fast = (run(way, weights.read(), inputs, is_first, sequence) for way in ways)
        for one, other in zip(slow, fast, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", [name for name in CELLS if name != "conv_lstm"])
def test_derivatives_are_those_of_the_unrolled_sequence(cell):
    policy = make_policy(action_space=SETS, cell=cell, hidden_size=4, encoder_sizes=(3,))
    weights = TrainedWeights(policy)
    inputs, is_first, *_ = sequences(policy, steps=5, count=1, resets=((0, 0), (2, 0)))
    outputs, by_weights = run(AnyDerivatives(policy, weights), weights.read(), inputs, is_first)
    unrolled = policy.outputs(inputs, is_first, policy.init_state(1))[:, 0]
    np.testing.assert_allclose(outputs, unrolled.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_weights[-1], by_autograd(policy, unrolled[-1]), rtol=1e-9, atol=1e-12)


def test_so_are_those_of_layers_above_each_other_and_of_all_inputs():
    policy = make_policy(cell="gru", hidden_size=3, num_layers=2, residual=True, inputs=InputsConfig(True, True, True))
    weights = TrainedWeights(policy)
    inputs, is_first, *_ = sequences(policy, steps=4, count=1, resets=((0, 0),))
    inputs = PolicyInputs(
        inputs.observations, torch.tensor([[0], [2], [1], [1]]), torch.randn(4, 1).double(), is_first.clone()
    )
    _, by_weights = run(AnyDerivatives(policy, weights), weights.read(), inputs, is_first)
    unrolled = policy.outputs(inputs, is_first, policy.init_state(1))[:, 0]
    np.testing.assert_allclose(by_weights[-1], by_autograd(policy, unrolled[-1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm"])
def test_truncated_derivatives_see_no_gradient_of_what_gates_read(cell):
    policy = small_policy(cell)
    weights = TrainedWeights(policy)
    inputs, is_first, *_ = sequences(policy, count=1, resets=((0, 0), (4, 0)))
    _, by_weights = run(LSTMDerivatives(policy, weights, "truncated"), weights.read(), inputs, is_first)

    memory = policy.actor.cell
    bias = memory.bias if cell == "peephole_lstm" else memory.bias_ih + memory.bias_hh
    p_i, p_f, p_o = memory.peepholes.chunk(3) if cell == "peephole_lstm" else torch.zeros(3, 3, dtype=torch.float64)
    features = torch.nn.functional.one_hot(inputs.observations[:, 0], 5).double()
    for t, x in enumerate(features):
        if is_first[t, 0]:
            h = c = torch.zeros(3, dtype=torch.float64)
        i, f, g, o = (linear(x, memory.weight_ih, bias) + linear(h.detach(), memory.weight_hh)).chunk(4)
        i, f = torch.sigmoid(i + p_i * c.detach()), torch.sigmoid(f + p_f * c.detach())
        c = f * c + i * torch.tanh(g)
        h = torch.sigmoid(o + p_o * c.detach()) * torch.tanh(c)
        np.testing.assert_allclose(by_weights[t], by_autograd(policy, policy.policy_head(h)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fast", [True, False])
def test_a_reset_forgets_state_and_sensitivities_finite_or_not(fast):
    policy = small_policy()
    weights = TrainedWeights(policy)
    make = functools.partial(LSTMDerivatives, kind="full") if fast else AnyDerivatives
    inputs, is_first, *_ = sequences(policy, steps=6, count=1, resets=((3, 0),))
    derivatives = make(policy, weights)
    derivatives.read(inputs, is_first)
    derivatives.begin(0)
    for t in range(3):
        derivatives.step(weights.read() * (np.nan if t == 2 else 1.0), t)
    after = [derivatives.step(weights.read(), t) for t in range(3, 6)]
    alone = run(make(policy, weights), weights.read(), PolicyInputs(inputs.observations[3:]), is_first[3:])
    for t, (outputs, by_weights) in enumerate(after):
        np.testing.assert_array_equal(outputs, alone[0][t])
        np.testing.assert_array_equal(by_weights, alone[1][t])


def test_groups_are_all_that_enters_a_unit_and_each_output_with_its_bias():
    policy = small_policy(hidden_size=2)
    weights = TrainedWeights(policy)
    groups = weights.groups("unit")
    assert sorted(map(len, groups)) == [3] * 6 + [4 * (5 + 2 + 1) + 3] * 2
    assert sorted(np.concatenate(groups).tolist()) == list(range(weights.count))
    numbers = {name: weights.numbers(f"actor.cell.{name}") for name in ("weight_ih", "weight_hh", "bias", "peepholes")}
    own = [numbers[name][1::2].reshape(-1).tolist() for name in numbers]
    assert set(groups[1].tolist()) == {number for some in own for number in some}
    assert [group.tolist() for group in weights.groups("all")] == [list(range(weights.count))]


def test_only_what_the_policy_head_depends_on_is_trained():
    policy = make_policy(cell="lstm", critic_memory="separate", action_space=gym.spaces.Box(-1, 1, (2,)))
    names = set(TrainedWeights(policy).parameters)
    assert {name.partition(".")[0] for name in names} == {"actor", "policy_head"}
    assert "actor.cell.bias_hh" not in names
    assert "actor.cell.bias_ih" in names
    before = copy.deepcopy(policy.state_dict())
    inputs, is_first, targets, weights = sequences(policy, steps=4, resets=())
    KalmanTeacher(policy, KalmanConfig()).learn(inputs, is_first, targets, weights)
    changed = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == names


def test_a_step_is_that_of_the_equations_written_out_group_by_group():
    draws = np.random.default_rng(0)
    groups = [np.array([0, 3]), np.array([1, 2, 5]), np.array([4, 6])]
    weights, jacobian, innovation = draws.normal(size=7), draws.normal(size=(2, 7)), draws.normal(size=2)
    covariances = [np.eye(len(group)) * 3.0 for group in groups]
    filtered = GroupCovariances(groups, 3.0)
    ours, theirs = weights.copy(), weights.copy()
    for _ in range(3):
        filtered.update(ours, jacobian, innovation, measurement_noise=0.5, process_noise=0.1)
        slopes = [jacobian[:, group].T for group in groups]
        total = sum((h.T @ p @ h for h, p in zip(slopes, covariances, strict=True)), 0.5 * np.eye(2))
        for k, (group, h) in enumerate(zip(groups, slopes, strict=True)):
            gain = covariances[k] @ h @ np.linalg.inv(total)
            theirs[group] += gain @ innovation
            covariances[k] = covariances[k] - gain @ h.T @ covariances[k] + 0.1 * np.eye(len(group))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    of_two, of_three = filtered.covariances
    for one, other in zip([of_two[0], of_three[0], of_two[1]], covariances, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)
    assert filtered.trace == pytest.approx(sum(map(np.trace, covariances)))


def test_with_one_group_it_is_the_extended_kalman_filter_of_the_textbook():
    """State w, identity transition, y = h(w) + noise: predict, then correct; Jacobians by backpropagation."""
    policy = small_policy(hidden_size=2)
    inputs, is_first, targets, weights = sequences(policy, steps=5, count=1, resets=((0, 0),))
    reference = copy.deepcopy(policy)
    config = KalmanConfig(
        measurement_noise=2.0, process_noise=0.03, first_variance=5.0, groups="all", measured="outputs"
    )
    KalmanTeacher(policy, config).learn(inputs, is_first, targets, weights)

    trained = TrainedWeights(reference)
    mean, covariance = trained.read(), 5.0 * np.eye(trained.count)
    contrast = np.kron(np.eye(3), [-0.5, 0.5])
    # Sensitivities of the state go on from step to step, each at the weights of its own time: a step of autograd each.
    state, by_state = reference.actor.cell.init_state(1), np.zeros((4, trained.count))
    for t in range(5):
        trained.write(mean)
        h, c = (leaf.detach().requires_grad_() for leaf in state)
        x = torch.nn.functional.one_hot(inputs.observations[t], 5).double()
        out, state = reference.actor.cell.step(x, type(state)(h, c))
        z = reference.policy_head(out)[0]
        flat = torch.cat([state.h[0], state.c[0], z])
        direct = by_autograd(reference, flat)
        past = np.stack(
            [
                torch.cat(
                    [
                        torch.zeros(2, dtype=torch.float64) if g is None else g[0]
                        for g in torch.autograd.grad(one, (h, c), retain_graph=True, allow_unused=True)
                    ]
                ).numpy()
                for one in flat
            ]
        )
        whole = direct + past @ by_state
        by_state, observed = whole[:4], contrast @ whole[4:]
        if t > 0:
            covariance = covariance + 0.03 * np.eye(trained.count)  # Predict.
        gain = np.linalg.solve(observed @ covariance @ observed.T + 2.0 * np.eye(3), observed @ covariance).T
        mean = mean + gain @ (contrast @ (targets[t, 0].numpy() - z.detach().numpy()))
        covariance = (np.eye(trained.count) - gain @ observed) @ covariance  # Correct.
    np.testing.assert_allclose(TrainedWeights(policy).read(), mean, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("measured", ["probabilities", "outputs"])
def test_covariances_stay_symmetric_and_positive_definite(measured):
    policy = small_policy()
    config = KalmanConfig(
        measurement_noise=1e-3, process_noise=1e-8, final_process_noise=1e-8, first_variance=1e3, measured=measured
    )
    teacher = KalmanTeacher(policy, config)
    read = sequences(policy, steps=40, count=25, resets=())
    for _ in range(3):
        metrics = teacher.learn(*read)
    assert metrics["updates"] == 3000
    for covariance in teacher.state_dict()["covariances"]:
        assert torch.equal(covariance, covariance.transpose(1, 2))
        assert float(torch.linalg.eigvalsh(covariance).min()) > 0


@pytest.mark.parametrize(
    ("space", "measured"),
    [
        (gym.spaces.Box(-1, 1, (2,)), "probabilities"),
        (gym.spaces.Discrete(3), "probabilities"),
        (gym.spaces.Discrete(2), "probabilities"),
        (gym.spaces.MultiDiscrete([2, 3]), "probabilities"),
        (gym.spaces.MultiBinary(2), "probabilities"),
        (gym.spaces.MultiDiscrete([2, 3]), "outputs"),
        (gym.spaces.MultiBinary(2), "outputs"),
    ],
)
def test_slopes_are_the_derivatives_of_what_is_measured(space, measured):
    measurement = Measurement(make_policy(action_space=space).distribution, measured)
    size = make_policy(action_space=space).distribution.num_parameters
    outputs, targets = np.linspace(-1.0, 0.7, size), np.ones(size)
    _, slopes = measurement(outputs, targets)
    for k in range(size):
        ahead, behind = outputs.copy(), outputs.copy()
        ahead[k] += 1e-6
        behind[k] -= 1e-6
        difference = (measurement(behind, targets)[0] - measurement(ahead, targets)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, k], difference, atol=1e-9)


@pytest.mark.parametrize(
    ("space", "measured", "outputs", "targets", "innovation"),
    [
        (gym.spaces.Box(-1, 1, (2,)), "probabilities", [0.5, -1.0], [0.75, 0.0], [0.25, 1.0]),
        (gym.spaces.Discrete(3), "probabilities", [0.0, 0.0, 0.0], [-1, -1, 1], [-1 / 3, -1 / 3, 2 / 3]),
        (gym.spaces.Discrete(2), "probabilities", [1.0, 1.0], [1, -1], [-0.5]),
        (gym.spaces.MultiDiscrete([2, 2]), "probabilities", [0, np.log(3), 0, 0], [-1, 1, 1, -1], [0.25, -0.5]),
        (gym.spaces.MultiBinary(2), "probabilities", [np.log(3), 0.0], [1, -1], [0.25, -0.5]),
        (gym.spaces.MultiDiscrete([2, 2]), "outputs", [0.0, 1.0, 1.0, -1.0], [-1, 1, 1, -1], [0.5, 0.0]),
        (gym.spaces.Discrete(3), "outputs", [0.5, 0.0, 1.0], [-1, -1, 1], [-1.5, -1.0, 0.0]),
        (gym.spaces.MultiBinary(2), "outputs", [0.5, 0.0], [1, -1], [0.5, -1.0]),
    ],
)
def test_the_innovation_is_what_is_wanted_minus_what_is_measured(space, measured, outputs, targets, innovation):
    measurement = Measurement(make_policy(action_space=space).distribution, measured)
    found, _ = measurement(np.array(outputs, dtype=float), np.array(targets, dtype=float))
    np.testing.assert_allclose(found, innovation, atol=1e-12)
    assert measurement.count == len(innovation)


def test_steps_that_ask_nothing_advance_the_memory_and_change_no_weight():
    policy = small_policy()
    inputs, is_first, targets, weights = sequences(
        policy, resets=((4, 0),)
    )  # Each begins anew, though no reset says so.
    before = TrainedWeights(policy).read()
    metrics = KalmanTeacher(policy, KalmanConfig()).learn(inputs, is_first, targets * np.nan, weights * 0)
    np.testing.assert_array_equal(TrainedWeights(policy).read(), before)
    assert (metrics["updates"], metrics["innovation"]) == (0, 0.0)

    asked = weights.clone()
    asked[:-1] = 0
    unasked = torch.where(asked.unsqueeze(-1) > 0, targets, torch.nan)
    last = copy.deepcopy(policy)
    KalmanTeacher(policy, KalmanConfig()).learn(inputs, is_first, unasked, asked)
    one = KalmanTeacher(last, KalmanConfig())
    for sequence in range(2):
        own = slice(sequence, sequence + 1)
        metrics = one.learn(PolicyInputs(inputs.observations[:, own]), is_first[:, own], unasked[:, own], asked[:, own])
    assert metrics["updates"] == 2
    np.testing.assert_array_equal(TrainedWeights(policy).read(), TrainedWeights(last).read())


def test_a_weight_divides_the_measurement_noise():
    first, second = small_policy(), small_policy()
    inputs, is_first, targets, weights = sequences(first)
    KalmanTeacher(first, KalmanConfig(measurement_noise=8.0)).learn(inputs, is_first, targets, weights * 4)
    KalmanTeacher(second, KalmanConfig(measurement_noise=2.0)).learn(inputs, is_first, targets, weights)
    np.testing.assert_array_equal(TrainedWeights(first).read(), TrainedWeights(second).read())


@pytest.mark.parametrize(("progress", "noises"), [(0.0, (100.0, 1e-2)), (0.5, (10.0, 1e-4)), (1.0, (1.0, 1e-6))])
def test_noises_go_geometrically_from_their_first_to_their_last_value(progress, noises):
    assert KalmanConfig().noises(progress) == pytest.approx(noises)
    policy = small_policy()
    metrics = KalmanTeacher(policy, KalmanConfig()).learn(*sequences(policy), progress=progress)
    assert (metrics["measurement_noise"], metrics["process_noise"]) == pytest.approx(noises)


def test_noise_is_on_the_memory_while_a_sequence_is_read():
    """With R so large that no weight moves, outputs are those of other weights, and the weights are as before."""
    policy = small_policy()
    before = TrainedWeights(policy).read()
    config = KalmanConfig(measurement_noise=1e30, process_noise=0.0, final_process_noise=0.0, weight_noise=0.3)
    inputs, is_first, targets, weights = sequences(policy)
    found = KalmanTeacher(policy, config).learn(
        inputs, is_first, targets, weights, generator=torch.Generator().manual_seed(5)
    )
    np.testing.assert_allclose(TrainedWeights(policy).read(), before, rtol=0, atol=1e-12)

    draws, squares = torch.Generator().manual_seed(5), 0.0
    noisy = copy.deepcopy(policy)
    trained = TrainedWeights(noisy)
    num_of_memory = sum(parameter.numel() for parameter in noisy.actor.parameters())
    for sequence in range(2):
        vector = before.copy()
        vector[:num_of_memory] += 0.3 * torch.randn(num_of_memory, generator=draws, dtype=torch.float64).numpy()
        trained.write(vector)
        own = slice(sequence, sequence + 1)
        outputs = noisy.outputs(PolicyInputs(inputs.observations[:, own]), is_first[:, own], noisy.init_state(1))[:, 0]
        probabilities = torch.sigmoid(outputs[:, 1::2] - outputs[:, ::2])
        wanted = (targets[:, sequence, 1::2] - targets[:, sequence, ::2]) / 4 + 0.5
        squares += float((wanted - probabilities).square().sum().detach())
    assert found["innovation"] == pytest.approx(squares / 54, rel=1e-9)


def test_what_is_loaded_goes_on_to_the_last_bit():
    policy = small_policy()
    teacher = KalmanTeacher(policy, KalmanConfig())
    teacher.learn(*sequences(policy))
    other = copy.deepcopy(policy)
    loaded = KalmanTeacher(other, KalmanConfig())
    loaded.load_state_dict(copy.deepcopy(teacher.state_dict()))
    both = [teacher.learn(*sequences(policy, seed=1)), loaded.learn(*sequences(policy, seed=1))]
    assert both[0] == both[1]
    np.testing.assert_array_equal(TrainedWeights(policy).read(), TrainedWeights(other).read())


def test_covariances_of_another_network_are_refused():
    teacher = KalmanTeacher(small_policy(), KalmanConfig())
    with pytest.raises(ValueError, match="another network or to other groups"):
        teacher.load_state_dict(KalmanTeacher(small_policy(hidden_size=2), KalmanConfig()).state_dict())


def test_it_learns_to_tell_whether_an_event_has_been():
    """Symbol 4 at step 0 or none: after 6 more steps the first component asks which."""
    policy = small_policy()
    teacher = KalmanTeacher(policy, KalmanConfig(final_measurement_noise=1.0))
    seen = torch.randint(0, 4, (7, 40), generator=torch.Generator().manual_seed(3))
    seen[0, ::2] = 4
    targets = torch.full((7, 40, 6), -1.0).double()
    targets[..., ::2] = 1.0
    targets[6, ::2, 0], targets[6, ::2, 1] = -1.0, 1.0
    weights = torch.zeros(7, 40).double()
    weights[6] = 1.0
    is_first = torch.zeros(7, 40, dtype=torch.bool)
    is_first[0] = True
    errors = [
        teacher.learn(PolicyInputs(seen), is_first, targets, weights, progress=k / 9)["innovation"] for k in range(10)
    ]
    assert errors[0] > 0.02
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"dtype": torch.float32}, {}, "float32 on cpu.*--dtype float64"),
        ({"cell": "gru"}, {"derivatives": "truncated"}, "one layer of lstm or peephole_lstm"),
        ({"encoder_sizes": (2,)}, {"derivatives": "truncated"}, "--encoder-sizes"),
        ({}, {"measurement_noise": 0.0}, "measurement_noise is 0.0"),
        ({}, {"first_variance": -1.0}, "first_variance is -1.0"),
        ({}, {"final_process_noise": 0.0}, "both 0"),
        ({}, {"weight_noise": -0.1}, "weight_noise is -0.1"),
    ],
)
def test_what_can_not_be_filtered_is_refused_with_the_remedy(options, settings, message):
    with pytest.raises(ValueError, match=message):
        KalmanTeacher(small_policy(**options), KalmanConfig(**settings))


def test_groups_that_are_too_large_are_refused_with_what_they_would_take():
    with pytest.raises(
        ValueError, match=r"1 groups of up to 20,000 weights would take 3\.0 GiB, derivatives of the state 0\.0 GiB"
    ):
        check_memory([20_000])
    with pytest.raises(ValueError, match=r"take 0\.7 GiB, derivatives of the state 2\.2 GiB; at most 2 GiB"):
        check_memory([1000] * 100, 1000)
    with pytest.raises(ValueError, match=r"GiB; at most 2 GiB"):
        KalmanTeacher(small_policy(hidden_size=90), KalmanConfig(groups="all"))


def test_what_is_not_finite_never_reaches_the_policy():
    policy = small_policy()
    inputs, is_first, targets, weights = sequences(policy)
    before = TrainedWeights(policy).read()
    targets[3, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="larger measurement noise"):
        KalmanTeacher(policy, KalmanConfig()).learn(inputs, is_first, targets, weights)
    np.testing.assert_array_equal(TrainedWeights(policy).read(), before)


def test_the_fast_way_is_taken_where_it_is_right():
    assert is_lstm(small_policy())
    assert is_lstm(small_policy("lstm"))
    assert not is_lstm(small_policy("gru"))
    assert not is_lstm(small_policy(encoder_sizes=(2,)))
    assert not is_lstm(small_policy(head_sizes=(2,)))
    assert not is_lstm(small_policy(num_layers=2))
