"""Settings of the agents, one module for each; none imports torch, so that help and presets don't wait for it."""
