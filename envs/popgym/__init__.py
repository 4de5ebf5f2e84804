"""Tasks of POPGym, rule for rule."""
