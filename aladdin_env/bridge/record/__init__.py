"""What a bridge decided, on disk: recorded while it serves, rebuilt and judged afterwards (docs/bridge-log.md)."""
