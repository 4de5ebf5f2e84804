"""A cart with poles hinged to it, side by side: the equations of motion and their integration, for a batch.

For poles i of mass m_i and half length l_i that lean by theta_i, on a cart at x of mass M that is pushed by F:

    a_i  = g sin theta_i - mu_p theta_i' / (m_i l_i)
    x''  = (F - mu_c sgn x' + sum_i (m_i l_i theta_i'^2 sin theta_i - 3/4 m_i a_i cos theta_i))
           / (M + sum_i m_i (1 - 3/4 cos^2 theta_i))
    theta_i'' = 3 / (4 l_i) (a_i - x'' cos theta_i)

with the friction mu_c of the cart on the track and mu_p of the hinges. They follow from the Lagrangian of uniform rods
on a cart, with the two frictions as generalised forces; tests derive them so.

Source: A. Wieland, "Evolving neural network controllers for unstable systems", IJCNN 1991.

Letters in shapes: B = lanes, P = poles.
"""

from collections.abc import Sequence

import numpy as np

from rlstm.core.arrays import FloatArray

GRAVITY = 9.8  # metres / second^2
CART_MASS = 1.0  # kilograms
CART_FRICTION = 5e-4  # newtons
HINGE_FRICTION = 2e-6  # newton metre seconds


class CartWithPoles:
    """The mechanical system. Angles grow in the direction of x, 0 is upright.

    Coordinates are x and the angles, one row each, (1 + P, B), in metres and radians; velocities likewise, per second.
    No method writes to what it is given.

    Args:
        half_lengths: Of the poles, P of them, in metres.
        masses: Of the poles, P of them, in kilograms.
        cart_friction: mu_c, newtons.
        hinge_friction: mu_p, newton metre seconds.
    """

    def __init__(
        self,
        half_lengths: Sequence[float],
        masses: Sequence[float],
        cart_friction: float = CART_FRICTION,
        hinge_friction: float = HINGE_FRICTION,
    ) -> None:
        lengths, weights = np.array(half_lengths)[:, None], np.array(masses)[:, None]  # (P, 1)
        self.cart_friction = cart_friction
        self.total_mass = CART_MASS + float(weights.sum())
        self.moments = weights * lengths
        self.hinge_rates = hinge_friction / self.moments
        self.three_quarter_masses = 0.75 * weights
        self.angular_gains = 0.75 / lengths

    def accelerations(self, angles: FloatArray, velocities: FloatArray, forces: FloatArray) -> FloatArray:
        """Return second derivatives of the coordinates, (1 + P, B), at `angles` (P, B).

        The `forces` (B,) push the cart, in newtons.
        """
        spins = velocities[1:]
        sines, cosines = np.sin(angles), np.cos(angles)
        falls = GRAVITY * sines
        falls -= self.hinge_rates * spins
        inertia = self.three_quarter_masses * cosines  # 3/4 m cos theta
        reactions = np.square(spins)
        reactions *= sines
        reactions *= self.moments
        reactions -= inertia * falls
        inertia *= cosines
        outcome = np.empty_like(velocities)
        pushes = np.sign(velocities[0])
        pushes *= -self.cart_friction
        pushes += forces
        pushes += reactions.sum(axis=0)
        np.divide(pushes, self.total_mass - inertia.sum(axis=0), out=outcome[0])
        falls -= outcome[0] * cosines
        np.multiply(falls, self.angular_gains, out=outcome[1:])
        return outcome

    def integrate(
        self, coordinates: FloatArray, velocities: FloatArray, forces: FloatArray, time_step: float, num_steps: int
    ) -> tuple[FloatArray, FloatArray]:
        """Take steps of the classical Runge-Kutta method of order 4, under constant forces.

        As the derivative of the coordinates is the velocities themselves, the slopes of the four stages are v, v_2,
        v_3, v_4 for the coordinates and the accelerations at these stages for the velocities.

        `coordinates` and `velocities` are (1 + P, B), `forces` (B,) in newtons, `time_step` in seconds. Returned are
        coordinates and velocities num_steps * time_step later, fresh arrays.
        """
        half = 0.5 * time_step
        for _ in range(num_steps):
            first = self.accelerations(coordinates[1:], velocities, forces)
            velocities_2 = velocities + half * first
            second = self.accelerations(coordinates[1:] + half * velocities[1:], velocities_2, forces)
            velocities_3 = velocities + half * second
            third = self.accelerations(coordinates[1:] + half * velocities_2[1:], velocities_3, forces)
            velocities_4 = velocities + time_step * third
            fourth = self.accelerations(coordinates[1:] + time_step * velocities_3[1:], velocities_4, forces)
            coordinates = coordinates + _weighted(velocities, velocities_2, velocities_3, velocities_4, time_step)
            velocities = velocities + _weighted(first, second, third, fourth, time_step)
        return coordinates, velocities


def _weighted(first: FloatArray, second: FloatArray, third: FloatArray, fourth: FloatArray, step: float) -> FloatArray:
    """Return step / 6 (k_1 + 2 k_2 + 2 k_3 + k_4), a fresh array."""
    total = second + third
    total *= 2.0
    total += first
    total += fourth
    total *= step / 6.0
    return total
