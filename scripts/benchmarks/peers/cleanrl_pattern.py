"""Train recurrent PPO in the pattern of CleanRL's ``ppo_atari_lstm`` and print a line of JSON an update.

    python -m scripts.benchmarks.peers.cleanrl_pattern --num-envs 16 --num-threads 1

The pattern, written anew for this task: one file; Gymnasium's SyncVectorEnv; a loop over time steps that multiplies the
state by 1 - done before each call of ``torch.nn.LSTM`` with one step, in acting and in training alike; minibatches of
whole environments, each from the state at the rollout's start; the clipped losses, advantages normalised in each
minibatch; Adam and a clipped gradient. Rewards and observations are not normalised. As in the pattern, a truncated
episode is not told from a terminated one. It needs torch and Gymnasium >= 1.1.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from scripts.benchmarks.peers.worker import (
    ENCODER,
    EPOCHS,
    HIDDEN,
    MINIBATCHES,
    NUM_STEPS,
    Reporter,
    make_env,
    read_arguments,
)

GAMMA, LAMBDA, CLIP, ENTROPY_COEF, VALUE_COEF, MAX_GRAD_NORM = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5
State = tuple[Tensor, Tensor]  # Hidden and cell, (1, B, H).


class Network(nn.Module):
    """Encoder, LSTM, and the heads of the policy and of the value."""

    def __init__(self, num_inputs: int, num_actions: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(num_inputs, ENCODER), nn.Tanh())
        self.lstm = nn.LSTM(ENCODER, HIDDEN)
        self.policy_head, self.value_head = nn.Linear(HIDDEN, num_actions), nn.Linear(HIDDEN, 1)

    def memory(self, observations: Tensor, state: State, dones: Tensor) -> tuple[Tensor, State]:
        """Return the LSTM's outputs (T, B, H) and its last state, step by step.

        Args:
            observations: (T, B, I).
            state: Before the first of them.
            dones: (T, B) 1 where an episode begins at the step.
        """
        encoded, outputs = self.encoder(observations), []
        for inputs, done in zip(encoded, dones, strict=True):
            kept = (1 - done).view(1, -1, 1)
            output, state = self.lstm(inputs.unsqueeze(0), (kept * state[0], kept * state[1]))
            outputs.append(output)
        return torch.cat(outputs), state


def init_state(num_envs: int) -> State:
    """Return a memory that holds nothing."""
    return torch.zeros(1, num_envs, HIDDEN), torch.zeros(1, num_envs, HIDDEN)


class Player:
    """The envs, and where they and the memory stand."""

    def __init__(self, num_envs: int, seed: int) -> None:
        mode = gym.vector.AutoresetMode.SAME_STEP
        self.envs = gym.vector.SyncVectorEnv([make_env] * num_envs, autoreset_mode=mode)
        self.observations = torch.as_tensor(self.envs.reset(seed=seed)[0])
        self.dones, self.state = torch.zeros(num_envs), init_state(num_envs)

    @torch.no_grad()
    def collect(self, network: Network) -> dict[str, Any]:
        """Play a rollout; its tensors are (T, B, ...), the state is the one before it."""
        first, steps = self.state, []
        for _ in range(NUM_STEPS):
            hidden, self.state = network.memory(self.observations[None], self.state, self.dones[None])
            choice = torch.distributions.Categorical(logits=network.policy_head(hidden[0]))
            actions = choice.sample()
            played = (self.observations, self.dones, actions, choice.log_prob(actions), network.value_head(hidden[0]))
            observations, rewards, terminated, truncated, _ = self.envs.step(actions.numpy())
            steps.append((*played[:4], played[4].flatten(), torch.as_tensor(rewards, dtype=torch.float32)))
            self.observations = torch.as_tensor(observations)
            self.dones = torch.as_tensor(np.logical_or(terminated, truncated), dtype=torch.float32)
        names = ("observations", "dones", "actions", "log_probs", "values", "rewards")
        rollout: dict[str, Any] = {
            name: torch.stack(rows) for name, rows in zip(names, zip(*steps, strict=True), strict=True)
        }
        hidden, _ = network.memory(self.observations[None], self.state, self.dones[None])
        last = network.value_head(hidden[0]).flatten()
        rollout["advantages"] = advantages(rollout["rewards"], rollout["values"], rollout["dones"], last, self.dones)
        return {**rollout, "state": first}


def advantages(rewards: Tensor, values: Tensor, dones: Tensor, last_value: Tensor, last_done: Tensor) -> Tensor:
    """Return generalised advantages (T, B); ``dones[t]`` says that an episode begins at step t."""
    found, following = torch.zeros_like(rewards), torch.zeros_like(last_value)
    for t in reversed(range(len(rewards))):
        goes_on = 1 - (last_done if t == len(rewards) - 1 else dones[t + 1])
        next_value = last_value if t == len(rewards) - 1 else values[t + 1]
        following = rewards[t] + GAMMA * next_value * goes_on - values[t] + GAMMA * LAMBDA * goes_on * following
        found[t] = following
    return found


def losses(network: Network, rollout: dict[str, Any], rows: Tensor) -> Tensor:
    """Return the loss of a minibatch of environments."""
    part = {name: rollout[name][:, rows] for name in rollout if name != "state"}
    state = (rollout["state"][0][:, rows], rollout["state"][1][:, rows])
    hidden, _ = network.memory(part["observations"], state, part["dones"])
    choice = torch.distributions.Categorical(logits=network.policy_head(hidden))
    values = network.value_head(hidden).squeeze(-1)
    ratio = (choice.log_prob(part["actions"]) - part["log_probs"]).exp()
    returns = part["advantages"] + part["values"]
    weights = (part["advantages"] - part["advantages"].mean()) / (part["advantages"].std() + 1e-8)
    policy_loss = -torch.min(weights * ratio, weights * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
    clipped = part["values"] + (values - part["values"]).clamp(-CLIP, CLIP)
    value_loss = 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2).mean()
    return policy_loss - ENTROPY_COEF * choice.entropy().mean() + VALUE_COEF * value_loss


def learn(network: Network, optimizer: torch.optim.Optimizer, rollout: dict[str, Any]) -> None:
    """Make the epochs of a rollout."""
    num_envs = rollout["rewards"].shape[1]
    for _ in range(EPOCHS):
        for rows in torch.randperm(num_envs).chunk(MINIBATCHES):
            loss = losses(network, rollout, rows)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), MAX_GRAD_NORM)
            optimizer.step()


def main(updates: int | None = None) -> None:
    """Train without end, or for so many updates."""
    arguments = read_arguments(__doc__, "sync")
    reporter, player = Reporter(), Player(arguments.num_envs, arguments.seed)
    network = Network(2, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=2.5e-4, eps=1e-5)
    for _ in itertools.count() if updates is None else range(updates):
        began = time.monotonic()
        rollout = player.collect(network)
        collected = time.monotonic()
        learn(network, optimizer, rollout)
        reporter.update(rollout["rewards"].numel(), collect=collected - began, update=time.monotonic() - collected)


if __name__ == "__main__":
    main()
