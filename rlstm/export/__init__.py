"""Trained policies for other programs: what this folder writes runs without ``rlstm``, and is compared with it."""
