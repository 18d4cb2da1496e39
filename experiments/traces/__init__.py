"""How well the generators reproduce the recorded traces."""
