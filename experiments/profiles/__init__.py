"""The shipped latency profiles: how they are made."""
