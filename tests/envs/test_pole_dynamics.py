"""A cart with poles: the closed-form equations against the Lagrangian, energy, and another integrator."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.control.pole_dynamics import CartWithPoles

HALF_LENGTHS, MASSES = [0.5, 0.05], [0.1, 0.01]
CART, GRAVITY, CART_FRICTION, HINGE_FRICTION = 1.0, 9.8, 5e-4, 2e-6


def random_states(num_poles: int, num: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Coordinates and velocities (1 + P, B), far beyond what a standing pole reaches, and forces (B,)."""
    rng = np.random.default_rng(seed)
    coordinates, velocities = rng.uniform(-1, 1, (2, 1 + num_poles, num))
    return 2.0 * coordinates, 4.0 * velocities, rng.uniform(-10, 10, num)


def solve_lagrange(q: Any, v: Any, force: float, cart_friction: float, hinge_friction: float) -> Any:
    """Second derivatives of one state (1 + P,) from d/dt dL/dv = dL/dq + friction, by the mass matrix.

    A rod of mass m and half length l with its foot at x has its middle at (x + l sin a, l cos a) and the moment of
    inertia m l^2 / 3 about it. So T = M x'^2 / 2 + sum of m / 2 (x'^2 + 2 l x' a' cos a + l^2 a'^2) + m l^2 a'^2 / 6
    and V = sum of m g l cos a. The mass matrix is the second derivative of T by the velocities.
    """
    size = q.size
    matrix, right = np.zeros((size, size)), np.zeros(size)
    matrix[0, 0] = CART
    right[0] = force - cart_friction * np.sign(v[0])
    for pole in range(1, size):
        mass, half = MASSES[pole - 1], HALF_LENGTHS[pole - 1]
        matrix[0, 0] += mass
        matrix[0, pole] = matrix[pole, 0] = mass * half * np.cos(q[pole])
        matrix[pole, pole] = mass * half**2 + mass * half**2 / 3
        right[0] += mass * half * v[pole] ** 2 * np.sin(q[pole])
        right[pole] = mass * GRAVITY * half * np.sin(q[pole]) - hinge_friction * v[pole]
    return np.linalg.solve(matrix, right)


def energy(q: Any, v: Any) -> Any:
    """T + V of states (1 + P, B), from the speeds of the ends and middles of the rods by Simpson's rule, (B,)."""
    total = 0.5 * CART * v[0] ** 2
    for pole in range(1, len(q)):
        mass, half = MASSES[pole - 1], HALF_LENGTHS[pole - 1]
        for place, weight in ((0.0, 1 / 6), (half, 4 / 6), (2 * half, 1 / 6)):
            sideways = v[0] + place * v[pole] * np.cos(q[pole])
            upwards = -place * v[pole] * np.sin(q[pole])
            total = total + weight * 0.5 * mass * (sideways**2 + upwards**2)
        total = total + mass * GRAVITY * half * np.cos(q[pole])
    return total


@pytest.mark.parametrize("num_poles", [1, 2])
@pytest.mark.parametrize(
    ("cart_friction", "hinge_friction"), [(CART_FRICTION, HINGE_FRICTION), (0.3, 0.02), (0.0, 0.0)]
)
def test_accelerations_solve_the_equations_of_lagrange(
    num_poles: int, cart_friction: float, hinge_friction: float
) -> None:
    cart = CartWithPoles(HALF_LENGTHS[:num_poles], MASSES[:num_poles], cart_friction, hinge_friction)
    q, v, forces = random_states(num_poles, 200)
    v[0, :5] = 0.0
    found = cart.accelerations(q[1:], v, forces)
    for lane in range(200):
        expected = solve_lagrange(q[:, lane], v[:, lane], forces[lane], cart_friction, hinge_friction)
        np.testing.assert_allclose(found[:, lane], expected, rtol=1e-9, atol=1e-9)


def test_the_frictions_are_the_documented_ones_unless_told_otherwise() -> None:
    q, v, forces = random_states(2, 50)
    default = CartWithPoles(HALF_LENGTHS, MASSES).accelerations(q[1:], v, forces)
    told = CartWithPoles(HALF_LENGTHS, MASSES, CART_FRICTION, HINGE_FRICTION).accelerations(q[1:], v, forces)
    none = CartWithPoles(HALF_LENGTHS, MASSES, 0.0, 0.0).accelerations(q[1:], v, forces)
    assert np.array_equal(default, told)
    assert np.abs(default - none).max() > 1e-4


@pytest.mark.parametrize("num_poles", [1, 2])
def test_without_friction_energy_is_conserved_to_the_order_of_the_integrator(num_poles: int) -> None:
    cart = CartWithPoles(HALF_LENGTHS[:num_poles], MASSES[:num_poles], 0.0, 0.0)
    q, v, _ = random_states(num_poles, 50)
    q[1:] *= 0.2
    losses = []
    for time_step in (4e-3, 2e-3, 1e-3):
        later = cart.integrate(q, v, np.zeros(50), time_step, round(0.4 / time_step))
        losses.append(np.abs(energy(*later) - energy(q, v)).max())
    assert losses[2] < 1e-8
    # The energy error of a method of order 4 falls with the fourth power of the step, or faster.
    assert min(losses[0] / losses[1], losses[1] / losses[2]) > 12.0


def test_momentum_along_the_track_grows_by_the_force_alone() -> None:
    cart = CartWithPoles(HALF_LENGTHS, MASSES, 0.0, 0.0)
    q, v, forces = random_states(2, 50)
    later_q, later_v = cart.integrate(q, v, forces, 1e-3, 100)

    def momentum(q: Any, v: Any) -> Any:
        moments = np.array(MASSES)[:, None] * np.array(HALF_LENGTHS)[:, None]
        return (CART + sum(MASSES)) * v[0] + (moments * v[1:] * np.cos(q[1:])).sum(axis=0)

    np.testing.assert_allclose(momentum(later_q, later_v) - momentum(q, v), 0.1 * forces, rtol=0, atol=1e-7)


def test_halving_the_step_divides_the_error_by_sixteen() -> None:
    # The friction of the cart jumps where it turns round, which no integrator likes: it is left out here.
    cart = CartWithPoles(HALF_LENGTHS, MASSES, 0.0, 2e-5)
    q, v, forces = random_states(2, 50)
    q[1:] *= 0.2
    exact = np.stack(cart.integrate(q, v, forces, 1e-4, 1000))
    errors = [
        np.abs(np.stack(cart.integrate(q, v, forces, 0.1 / steps, steps)) - exact).max() for steps in (25, 50, 100)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 3.7) & (orders < 4.5)), orders


def test_with_friction_the_motion_is_that_of_another_integrator_with_tiny_steps() -> None:
    num_lanes, seconds = 6, 0.2
    cart = CartWithPoles(HALF_LENGTHS, MASSES)
    q, v, forces = random_states(2, num_lanes, seed=3)
    q[1:] *= 0.1
    v *= 0.2
    found = np.stack(cart.integrate(q, v, forces, 0.01, 20))
    tiny = 1e-4
    for lane in range(num_lanes):
        position, velocity, force = q[:, lane].copy(), v[:, lane].copy(), forces[lane]
        for _ in range(round(seconds / tiny)):  # The midpoint rule, on the equations of Lagrange.
            first = solve_lagrange(position, velocity, force, CART_FRICTION, HINGE_FRICTION)
            middle = velocity + 0.5 * tiny * first
            second = solve_lagrange(position + 0.5 * tiny * velocity, middle, force, CART_FRICTION, HINGE_FRICTION)
            position, velocity = position + tiny * middle, velocity + tiny * second
        np.testing.assert_allclose(found[:, :, lane], [position, velocity], rtol=0, atol=2e-3)
        np.testing.assert_allclose(found[0, :, lane], position, rtol=0, atol=2e-4)


def test_a_second_pole_without_mass_leaves_the_cart_and_the_first_pole_alone() -> None:
    one = CartWithPoles([0.5], [0.1])
    two = CartWithPoles([0.5, 0.05], [0.1, 1e-13], hinge_friction=0.0)
    one.hinge_rates[:] = 0.0
    q, v, forces = random_states(2, 50)
    q[1:] *= 0.2
    expected = np.stack(one.integrate(q[:2], v[:2], forces, 0.01, 2))
    found = np.stack(two.integrate(q, v, forces, 0.01, 2))
    np.testing.assert_allclose(found[:, :2], expected, rtol=0, atol=1e-10)


def test_upright_and_at_rest_is_an_equilibrium_that_mirrors_left_and_right() -> None:
    cart = CartWithPoles(HALF_LENGTHS, MASSES)
    zeros = np.zeros((3, 1))
    assert not np.any(cart.integrate(zeros, zeros, np.zeros(1), 0.01, 2))
    q, v, forces = random_states(2, 50)
    there, mirrored = cart.integrate(q, v, forces, 0.01, 2), cart.integrate(-q, -v, -forces, 0.01, 2)
    assert np.array_equal(there[0], -mirrored[0])
    assert np.array_equal(there[1], -mirrored[1])


def test_nothing_that_is_passed_in_is_written_to() -> None:
    cart = CartWithPoles(HALF_LENGTHS, MASSES)
    arguments = random_states(2, 8)
    kept = [array.copy() for array in arguments]
    cart.integrate(*arguments, 0.01, 3)
    assert all(np.array_equal(one, other) for one, other in zip(arguments, kept, strict=True))
