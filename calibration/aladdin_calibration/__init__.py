"""Measuring real serving engines, fitting latency profiles to the measurements, and judging them."""
