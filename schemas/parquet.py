"""Parquet and JSON files that are either whole or not there, and that show their own damage.

Every page of a Parquet file carries a checksum.  `read` verifies it, and the schema, before anyone
uses a row.

This module knows nothing of which tables there are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracknet.schemas.errors import NotWritable, StoreError, TableError
from tracknet.schemas.files import errors_of, is_remote, whole_file

log = logging.getLogger(__name__)


def write(table: pa.Table, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a table atomically, zstd-compressed, with checksums.

    Args:
        table: rows of a schema of `schemas.tables`, cast by the caller.
        path: where; its folder is made.
        metadata: goes into the file's metadata, values that are no strings as JSON.

    Raises:
        NotWritable: no permission, no room.
    """
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **text})
    with writing(path), whole_file(path) as aside:
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a JSON document atomically.

    Raises:
        NotWritable: no permission, no room.
    """
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with writing(path), whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the storage's errors into one that says which file.

    Raises:
        NotWritable: one of `schemas.files.errors_of` in the block.
    """
    try:
        yield
    except StoreError:
        raise
    except errors_of(path) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotWritable(f"{path}: cannot be written ({reason})") from error


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a table and check that it has the schema's fields with the schema's types.

    Fields that came later (`since` in their metadata) are null where the file lacks them.

    Raises:
        TableError: the file is no Parquet file, is damaged, or a field is missing or of another
            type.
    """
    try:
        with pq.ParquetFile(_content(path), page_checksum_verification=True) as file:
            table = file.read(columns)  # small files far faster than `read_table`
    except (pa.ArrowException, errors_of(path)) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error
    for name in columns or schema.names:
        field = schema.field(name)
        if name not in table.column_names and b"since" in (field.metadata or {}):
            table = table.append_column(field, pa.nulls(len(table), field.type))
        elif name not in table.column_names:
            raise TableError(f"{path}: column {name!r} is missing; was it written by this project?")
        if table.schema.field(name).type != field.type:
            raise TableError(
                f"{path}: column {name!r} is {table.schema.field(name).type}, must be {field.type}"
            )
    return table


def _content(path: Path) -> Path | pa.BufferReader:
    """What Arrow reads a whole file from: one request, where each costs some milliseconds."""
    return pa.BufferReader(path.read_bytes()) if is_remote(path) else path


def _footer(path: Path) -> AbstractContextManager[Any]:
    """What Arrow reads the end of a file from, and only that."""
    return path.open("rb") if is_remote(path) else nullcontext(path)


def row_count(path: Path) -> int:
    """Rows that a Parquet file announces in its footer; no row is read.

    Raises:
        TableError: the file is no Parquet file.
    """
    try:
        with _footer(path) as file:
            return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, errors_of(path)) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error


def file_metadata(path: Path) -> dict[str, str]:
    """The key-value metadata of a Parquet file, without Arrow's own entry.

    Raises:
        TableError: the file is no Parquet file.
    """
    try:
        with _footer(path) as file:
            raw = pq.read_schema(file).metadata or {}
        return {k.decode(): v.decode() for k, v in raw.items() if k != b"ARROW:schema"}
    except (pa.ArrowException, errors_of(path), UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error


def readable(
    paths: list[Path], schema: pa.Schema, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of the files that can be read; others are named in the log."""
    rows = []
    for path in paths:
        try:
            rows += read(path, schema, columns).to_pylist()
        except TableError as error:
            log.warning("damaged; treated as missing: %s", error)
    return rows


def fill_column(path: Path, schema: pa.Schema, **value: str) -> None:
    """Write a file again with one value in all rows of a column, given by its name."""
    ((name, text),) = value.items()
    table = read(path, schema)
    column = pa.array([text] * len(table), pa.string())
    changed = table.set_column(table.schema.get_field_index(name), name, column)
    write(changed.cast(schema), path, file_metadata(path))


def first_value(path: Path, schema: pa.Schema, column: str) -> list[Any]:
    """What the first row of a file has in a column; none where there is no row to be read."""
    if not path.exists():
        return []
    try:
        values: list[Any] = read(path, schema, [column])[column].slice(0, 1).to_pylist()
    except TableError as error:
        log.warning("damaged: %s", error)
        return []
    return values
