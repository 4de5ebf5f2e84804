"""What a Python user calls: train, resume, evaluate, record and load; imports agents and envs lazily."""
