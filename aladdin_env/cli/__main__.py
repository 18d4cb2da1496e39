"""``python -m aladdin_env.cli``."""

from aladdin_env.cli.app import main

if __name__ == "__main__":  # child processes import this module too
    main()
