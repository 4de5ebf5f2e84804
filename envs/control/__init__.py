"""Control without velocities."""
