"""The plain step-by-step simulator: an oracle for the compiled core, written from docs/simulator.md alone."""
