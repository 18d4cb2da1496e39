"""What the command line tells the shell."""

NO_ANSWER = 1  # done, and the answer is no
USER_ERROR = 2
INTERRUPTED = 130  # as shells do: 128 + SIGINT
