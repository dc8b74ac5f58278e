"""Parquet files with our schema version in their metadata, and errors a user can read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from features.errors import StoreError
from features.places import StorePath, read_bytes
from features.spec import SCHEMA_VERSION, canonical_json, check_schema

_KEY = b"redvillm"


def encode_table(
    rows: list[dict[str, Any]], columns: Mapping[str, str], facts: Mapping[str, Any]
) -> bytes:
    """Rows as one Parquet file in memory; `columns` gives each column's Arrow type by name."""
    floats = pa.list_(pa.float64())
    fields = [
        (name, floats if kind == "floats" else pa.type_for_alias(kind))
        for name, kind in columns.items()
    ]
    header = canonical_json({"schema": SCHEMA_VERSION, **facts}).encode()
    schema = pa.schema(fields, metadata={_KEY: header})
    target = BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, target, write_page_checksum=True)
    return target.getvalue()


def read_table(
    path: StorePath, columns: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and facts of a file that `encode_table` made.

    Raises:
        StoreError: damaged, not ours, or of another schema version.
    """
    try:
        source = BytesIO(read_bytes(path)) if isinstance(path, UPath) else path
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            facts = json.loads(file.schema_arrow.metadata[_KEY])
            rows = file.read(columns).to_pylist()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError("cannot read the table", where=path, got=error) from error
    check_schema(facts, path)
    return rows, facts
