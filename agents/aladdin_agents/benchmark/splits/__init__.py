"""The settings of each split, a module each: ``PLACEMENT`` and ``JOINT`` (of which scaling has the one-frame part)."""
