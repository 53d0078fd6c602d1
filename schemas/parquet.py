"""Parquet files that are either whole or not there.

`read` checks a file against its schema before anyone uses it.

This module knows nothing of which tables there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracknet.schemas.errors import TableError
from tracknet.schemas.files import whole_file


def write(table: pa.Table, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a table atomically, zstd-compressed.

    Args:
        table: rows of a schema of `schemas.tables`, cast by the caller.
        path: where; its folder is made.
        metadata: goes into the file's metadata, values that are no strings as JSON.
    """
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **text})
    with whole_file(path) as aside:
        pq.write_table(table, aside, compression="zstd")


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a JSON document atomically."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a table and check that it has the schema's fields with the schema's types.

    Raises:
        TableError: the file is no Parquet file, or a field is missing or of another type.
    """
    try:
        table = pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error})") from error
    for name in columns or schema.names:
        field = schema.field(name)
        if name not in table.column_names:
            raise TableError(f"{path}: column {name!r} is missing; was it written by this project?")
        if table.schema.field(name).type != field.type:
            raise TableError(
                f"{path}: column {name!r} is {table.schema.field(name).type}, must be {field.type}"
            )
    return table


def file_metadata(path: Path) -> dict[str, str]:
    """The key-value metadata of a Parquet file, without Arrow's own entry."""
    raw = pq.read_schema(path).metadata or {}
    return {k.decode(): v.decode() for k, v in raw.items() if k != b"ARROW:schema"}
