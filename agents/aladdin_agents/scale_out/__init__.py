"""Work on many processes or machines: local ones, or a Ray cluster (docs/scale-out.md)."""
