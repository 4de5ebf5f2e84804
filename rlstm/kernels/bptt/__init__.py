"""Sequences whose backward pass is written by hand: one loop (``gated``), one file for each cell's equations."""
