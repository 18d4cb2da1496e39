"""Commands of the agents, each in a module that imports what it needs when it runs."""
