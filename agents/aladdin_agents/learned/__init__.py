"""Learned policies: their networks, their checkpoints, and how they decide without a learning library."""
