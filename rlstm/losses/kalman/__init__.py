"""The decoupled extended Kalman filter: a policy learns answers on-line, with second-order steps."""

from rlstm.losses.kalman.settings import KalmanConfig
from rlstm.losses.kalman.teacher import KalmanTeacher

__all__ = ["KalmanConfig", "KalmanTeacher"]
