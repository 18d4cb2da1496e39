"""What the command line tells the shell."""

NO_ANSWER = 1  # done, and the answer is no
USER_ERROR = 2
OUTSIDE_FAULT = 3  # a server failed, or was not free: the same command may work later
INTERRUPTED = 130  # as shells do: 128 + SIGINT
