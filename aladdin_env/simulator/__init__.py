"""The compiled core: arrays and time; it knows nothing of Gymnasium and of no policy."""
