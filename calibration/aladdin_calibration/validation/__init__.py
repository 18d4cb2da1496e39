"""How true a simulation is: the same open-loop trace on real servers and in the simulator, side by side."""
