"""Learning curves of the shipped agents."""
