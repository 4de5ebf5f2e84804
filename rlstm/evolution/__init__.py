"""Parts of evolutionary agents: strategies, parameter vectors, populations, readouts, teacher sequences, fitness."""
