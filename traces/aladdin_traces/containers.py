"""The one way from a file to its columns: CSV, Parquet, JSON lines or a JSON document."""

from collections.abc import Sequence

from aladdin_traces.csv_table import ArrowTable, CsvTable
from aladdin_traces.errors import InputError
from aladdin_traces.json_table import JsonTable
from aladdin_traces.source import PARQUET_ERRORS, Source
from aladdin_traces.tables import Table


def open_table(source: Source, numbers: Sequence[str], labels: Sequence[str] = (), lists: Sequence[str] = ()) -> Table:
    """Read the wanted columns, those of them that the file has.

    Args:
        source: The file.
        numbers: Columns of numbers or times.
        labels: Columns of names, kept as text.
        lists: Columns of lists; in CSV these are numbers with spaces between.

    Raises:
        InputError: The file cannot be parsed, or has no row.
    """
    if source.is_json:
        return JsonTable(source.name, source.objects(), (*numbers, *labels, *lists))
    if not source.is_parquet:
        return CsvTable(source, numbers, (*labels, *lists))
    wanted = [name for name in dict.fromkeys((*numbers, *labels, *lists)) if name in source.columns]
    try:
        table = source.parquet().read(columns=wanted, use_threads=source.is_large)
    except PARQUET_ERRORS as error:
        raise source.damaged_parquet(error) from None
    if not table.num_rows:
        raise InputError(source.name, "0 rows", "give at least one request")
    return ArrowTable(source.name, table)
