"""Memory tasks of bsuite."""
