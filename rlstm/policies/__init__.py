"""Policies: encoders, memory, heads, distributions and normalisers, and the snapshot of their weights that acts."""
