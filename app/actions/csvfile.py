"""A CSV file of the project, only read: rows whose columns equal what is asked for.

The file is read again when its time or size changes, in a thread, and kept with an index over the columns asked for. Whoever writes it
should put a whole new file in its place (rename), so that half of one is never read. Telephone numbers are compared as E.164.
"""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import phonenumbers

from app.core.events import Json

from . import templates
from .dialects import Csv
from .failures import Failed

MAX_FILE: Final = 64 * 1024 * 1024
Row: TypeAlias = dict[str, str]
Index: TypeAlias = dict[tuple[str, ...], list[Row]]


class CsvTable:
    """One file with its index. Raises `ValueError` for a file outside of the project's folder."""

    def __init__(self, request: Csv, folder: Path, names: set[str]) -> None:
        self._request = request
        self._path = (folder / request.file).resolve()
        if not self._path.is_relative_to(folder.resolve()):
            raise ValueError(f"{request.file} leads out of the project's folder")
        self._match = [(column, templates.text(source, names)) for column, source in request.match.items()]
        self._read: tuple[int, int] = (0, 0)
        self._index: Index = {}
        self._loading: asyncio.Task[Exception | None] | None = None

    def line(self, values: Mapping[str, Any]) -> str:
        """The request as samples spell it: `csv customers.csv {"phone":"+4930"}`."""
        return f"csv {self._request.file} {orjson.dumps({column: make(values) for column, make in self._match}).decode()}"

    async def find(self, values: Mapping[str, Any], seconds: float) -> Json:
        """The rows for these values; raises `Failed`."""
        key = tuple(self._normal(column, make(values)) for column, make in self._match)
        try:
            await self._fresh()
        except OSError as error:
            raise Failed("refused", f"{self._request.file} cannot be read: {error.strerror}") from None
        except (ValueError, csv.Error) as error:
            raise Failed("malformed", f"{self._request.file}: {error}") from None
        found = self._index.get(key, []) if all(key) else []
        rows: list[Json] = [dict(row) for row in found[: self._request.rows]]
        return {"rows": rows, "count": len(rows), "more": len(found) > len(rows)}

    async def close(self) -> None:
        """Read no more."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    async def _fresh(self) -> None:
        """Read the file if it has changed; all who ask meanwhile wait for one reading."""
        if self._state() == self._read:
            return
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load_anew())
        error = await asyncio.shield(self._loading)
        if error is not None:
            raise error

    async def _load_anew(self) -> Exception | None:
        try:
            state = self._state()
            self._index = await asyncio.to_thread(self._load)
            self._read = state
        except (OSError, ValueError, csv.Error) as error:
            return error
        finally:
            self._loading = None
        return None

    def _state(self) -> tuple[int, int]:
        status = os.stat(self._path)
        if status.st_size > MAX_FILE:
            raise ValueError(f"the file has more than {MAX_FILE} bytes")
        return status.st_mtime_ns, status.st_size

    def _load(self) -> Index:
        index: Index = {}
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=self._request.delimiter, strict=True)
            columns = reader.fieldnames or []
            lacking = [column for column in (*self._request.match, *self._request.numbers) if column not in columns]
            if lacking:
                raise ValueError(f"there is no column {lacking[0]!r}")
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"line {reader.line_num} has not as many fields as the first")
                key = tuple(self._normal(column, row[column]) for column, _ in self._match)
                index.setdefault(key, []).append({name: self._shown(name, value) for name, value in row.items()})
        return index

    def _shown(self, column: str, value: str) -> str:
        return self._normal(column, value) if column in self._request.numbers else value

    def _normal(self, column: str, value: str) -> str:
        """What is compared: numbers as E.164 where they can be, anything else without blanks around it."""
        value = value.strip()
        if column not in self._request.numbers or not value:
            return value
        try:
            number = phonenumbers.parse(value, self._request.region or None)
        except phonenumbers.NumberParseException:
            return value
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
