"""Random MDPs: any policy that knows only the state earns 1 a step. The optimum isn't known."""

from typing import Any

VARIANTS = {
    "rlstm/TabularMDP-v0": [
        {"num_states": 2, "num_actions": 2, "horizon": 3},
        {"num_states": 1, "num_actions": 3, "horizon": 1},
    ]
}


def choose_by_the_state(observations: list[Any], env: Any) -> Any:
    return observations[-1] % env.task.num_actions


MEMORYLESS = {"rlstm/TabularMDP-v0": choose_by_the_state}
