"""Fast implementations of whole sequences, exact for resets at any step."""
