"""Writing traces: the project's own table, and the files that load generators replay."""

from aladdin_traces.writers import plain as plain
from aladdin_traces.writers import replay as replay
from aladdin_traces.writers.registry import WRITERS, Writer, register_writer, write_trace, writer_for

__all__ = ["WRITERS", "Writer", "register_writer", "write_trace", "writer_for"]
