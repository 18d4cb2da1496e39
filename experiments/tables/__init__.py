"""Tables of the documentation."""
