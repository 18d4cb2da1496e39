"""The commands ``aladdin calibrate`` and ``aladdin validate``, found by ``aladdin`` through its entry points."""
