"""Training of learned policies: configuration, imitation, PPO under a constraint, validation, resumption."""
