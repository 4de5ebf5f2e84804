"""Rollouts: the time convention (``rollout``), the collector, bootstrap values and episode statistics."""
