"""What a Python user calls: train, resume, evaluate, record, load and read curves; imports agents and envs lazily."""
