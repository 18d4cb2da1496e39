"""What is logged of those who speak no HTTP, or break its rules: that they did, and nothing of what they sent.

aiohttp logs a traceback for each, with the first bytes of the header that broke a rule: which may be a key, and fills
the log of whoever listens to strangers.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


class _WithoutTheirBytes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Turn the record into one line, of the level INFO at most, where it is of a client's mistake."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno = min(record.levelno, logging.INFO)
            record.levelname = logging.getLevelName(record.levelno)
            record.msg, record.exc_info = f"{record.msg}: {type(error).__name__}", None
        return True


#: For the listeners.
CONNECTION_LOG = logging.getLogger(__name__)
CONNECTION_LOG.addFilter(_WithoutTheirBytes())
