"""What envs are made of: tasks for a batch, the two envs over them, checks, random streams, registration."""
