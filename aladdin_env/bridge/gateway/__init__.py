"""The HTTP side of the bridge: an OpenAI-compatible front before the workers."""
