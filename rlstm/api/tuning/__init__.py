"""The search for settings, ``rlstm tune``: what is tried, the study that processes share, and what comes of it.

``space`` and ``plan`` say what is searched and need no more than the settings themselves. ``study`` keeps the trials by
Optuna, ``claims`` tells which of their processes are alive, ``work`` plays them, ``finals`` compares the best on fresh
seeds, ``result`` is what is told of it, ``preset_file`` what is written, and ``tune`` is all of it.
"""
