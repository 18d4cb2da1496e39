"""Beyond the paper: what its reviewers missed (docs/beyond.md)."""
