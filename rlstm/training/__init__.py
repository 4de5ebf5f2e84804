"""A run: its config and presets, the loops of updates and of generations, its folder, checkpoints, loggers, display."""
