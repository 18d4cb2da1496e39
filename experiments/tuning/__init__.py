"""How the shipped settings of policies were found."""
