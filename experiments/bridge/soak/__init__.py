"""A bridge under load for minutes while its workers are killed and hang and its clients misbehave."""
