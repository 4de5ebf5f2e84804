"""Sequences as Triton kernels; imported when one runs."""
