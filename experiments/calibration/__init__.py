"""Laws of latency from measurements: fits to request logs of real servers, and what they expect beforehand."""
