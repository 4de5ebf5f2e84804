"""Returns and advantages, losses, and the gradient step."""
