"""Sequence tasks with a teacher: the classics of the LSTM literature."""
