"""Parts of evolutionary agents: strategies, parameter vectors, populations that act together, readouts, fitness."""
