"""Exploration: a bonus for what is new, beside the env's rewards, for agents that learn from rollouts."""
