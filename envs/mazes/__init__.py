"""Mazes: walk, remember, turn."""
