"""Measurements of real vLLM, and how true the simulator is to it."""
