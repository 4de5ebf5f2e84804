"""Spoken strings: only bounds are known of their returns."""

VARIANTS = {"rlstm/SpokenStrings-v0": [{"min_labels": 1, "max_labels": 2, "max_duration": 4, "smoothing": 0}]}
