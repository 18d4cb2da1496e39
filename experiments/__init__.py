"""Scripts and configurations that make the project's figures; not installed."""
