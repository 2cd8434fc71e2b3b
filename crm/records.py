"""The records: finding, reading, making and changing them.

A `Collection` knows one table: how a row becomes the JSON object that callers get (`render`), and what the record itself adds
to what callers send (`complete`, `amend`). A contact is read with its account, its latest order and the number of its open
cases by one statement, so that a call needs one lookup.

Writes are transactions of `Records.create_once` and `Records.change`; a key that was used before gives back what it made.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, Label, Row, Select, Table, bindparam, cast, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import String

from crm.database import Database
from crm.numbers import e164, keypad
from crm.tables import accounts, activities, cases, contacts, custom_objects, order_links, orders, request_keys
from crm.texts import SPOKEN

Values = dict[str, Any]
FIELD = "field_"  # begins the name of a custom field among the wanted; no column begins like that
MAX_LISTS = 100


class InvalidValue(Exception):
    """A value that only the records can judge; `field` says which."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class Conflict(Exception):
    """Another record already has that value."""


class KeyReused(Exception):
    """The key of an earlier request came with another body."""


class NoSuchRecord(Exception):
    """There is no record with that id."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`base_url` is where this service is reached, without a slash at the end; `region` reads national numbers."""

    base_url: str
    region: str


def new_id() -> str:
    """Return 32 random hexadecimal digits."""
    return uuid.uuid4().hex


def new_token() -> str:
    """Return 128 random bits, fit for an address."""
    return secrets.token_urlsafe(16)


def now() -> str:
    """Return the time as the tables keep it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Collection:
    """One table of records; `kind` is the `type` in their JSON."""

    table: Table
    kind: str
    newest_first: str = "created_at"
    references: Mapping[str, Table] = {}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.statement = self.query()
        self.names = _names(self.statement.selected_columns)
        self._lists: dict[tuple[str, ...], Select[Any]] = {}

    def query(self) -> Select[Any]:
        """Return the statement that reads whole records."""
        return select(self.table)

    def listing(self, names: tuple[str, ...]) -> Select[Any]:
        """Return the statement that finds records by the columns `names`; the same one each time, so that it is compiled once."""
        found = self._lists.get(names)
        if found is None:
            order = (self.table.c[self.newest_first].desc(), self.table.c.id)
            found = self.statement.where(*(self.column(name) == bindparam(f"wanted_{name}") for name in names))
            found = found.order_by(*order).limit(bindparam("limit")).offset(bindparam("offset"))
            if len(self._lists) < MAX_LISTS:
                self._lists[names] = found
        return found

    def column(self, name: str) -> ColumnElement[Any]:
        """Return what a list compares for `name`."""
        return self.table.c[name]

    def wanted(self, name: str, value: Any) -> Any:
        """Return the form in which `value` is stored."""
        return value

    def render(self, row: Row[Any]) -> Values:
        """Return the JSON object of a row of `statement`."""
        return {"type": self.kind, **dict(zip(self.names, row, strict=True))}

    def complete(self, given: Values) -> Values:
        """Return the columns of a new record; raises InvalidValue."""
        return given

    def amend(self, before: Mapping[str, Any], given: Values) -> Values:
        """Return the columns that change; raises InvalidValue."""
        return given


class Accounts(Collection):
    """Companies."""

    table = accounts
    kind = "account"


class Contacts(Collection):
    """People."""

    table = contacts
    kind = "contact"
    references: Mapping[str, Table] = {"account_id": accounts}

    def query(self) -> Select[Any]:
        latest = (
            select(orders.c.id)
            .where(orders.c.contact_id == contacts.c.id)
            .order_by(orders.c.placed_at.desc(), orders.c.id.desc())
            .limit(1)
            .correlate(contacts)
            .scalar_subquery()
        )
        open_cases = (
            select(func.count())
            .where(cases.c.contact_id == contacts.c.id, cases.c.status != "closed")
            .correlate(contacts)
            .scalar_subquery()
        )
        return select(
            *_labelled(contacts, "c_", _CONTACT), *_labelled(accounts, "a_", _ACCOUNT), *_labelled(orders, "o_", _ORDER), open_cases
        ).select_from(contacts.outerjoin(accounts, accounts.c.id == contacts.c.account_id).outerjoin(orders, orders.c.id == latest))

    def wanted(self, name: str, value: Any) -> Any:
        if name == "phone":
            return e164(value, self.settings.region)  # None for a short code and the like: NULL is nobody's number
        return value.upper() if name == "reference" else value

    def render(self, row: Row[Any]) -> Values:
        contact = dict(zip(_CONTACT, row[: len(_CONTACT)], strict=True))
        account = dict(zip(_ACCOUNT, row[len(_CONTACT) : len(_CONTACT) + len(_ACCOUNT)], strict=True))
        order = dict(zip(_ORDER, row[len(_CONTACT) + len(_ACCOUNT) : -1], strict=True))
        key = contact.pop("record_key")
        return {
            "type": "contact",
            **contact,
            "account": {"type": "account", **account} if account["id"] else None,
            "last_order": self._last_order(order, contact["language"]) if order["id"] else None,
            "open_cases": row[-1],
            "record_url": f"{self.settings.base_url}/records/contacts/{contact['id']}?key={key}",
        }

    def _last_order(self, order: Values, language: str) -> Values:
        return {
            "type": "order",
            "id": order["id"],
            "number": order["number"],
            "status": order["status"],
            "status_text": SPOKEN[language][order["status"]],
            "total": order["total"],
            "currency": order["currency"],
            "eta": order["eta"],
            "track_url": track_url(self.settings, order["track_token"]),
        }

    def complete(self, given: Values) -> Values:
        return {**self.amend({}, given), "record_key": new_token()}

    def amend(self, before: Mapping[str, Any], given: Values) -> Values:
        changed = dict(given)
        if given.get("phone") is not None:
            changed["phone"] = e164(given["phone"], self.settings.region)
            if changed["phone"] is None:
                raise InvalidValue("phone", "is no possible telephone number")
        if "reference" in given:
            changed["reference_digits"] = keypad(given["reference"]) if given["reference"] else None
        return changed


class Orders(Collection):
    """Orders; `status_text` is in the language of the contact."""

    table = orders
    kind = "order"
    newest_first = "placed_at"
    references: Mapping[str, Table] = {"contact_id": contacts}

    def query(self) -> Select[Any]:
        return select(orders, contacts.c.language).select_from(orders.join(contacts, contacts.c.id == orders.c.contact_id))

    def render(self, row: Row[Any]) -> Values:
        order = super().render(row)
        order["status_text"] = SPOKEN[order.pop("language")][order["status"]]
        order["track_url"] = track_url(self.settings, order.pop("track_token"))
        return order

    def complete(self, given: Values) -> Values:
        placed = given["placed_at"] or now()
        return {
            **given,
            "number": given["number"] or str(10_000_000 + secrets.randbelow(90_000_000)),
            "total": _sum(given["items"]) if given["total"] is None else given["total"],
            "placed_at": placed,
            "status_history": given.get("status_history") or [{"status": given["status"], "at": placed, "note": None}],
            "track_token": new_token(),
        }

    def amend(self, before: Mapping[str, Any], given: Values) -> Values:
        changed = {name: value for name, value in given.items() if name != "status_note"}
        if given.get("status", before["status"]) != before["status"] or given.get("status_note"):
            entry = {"status": given.get("status", before["status"]), "at": now(), "note": given.get("status_note")}
            changed["status_history"] = [*before["status_history"], entry]
        if ("items" in given and "total" not in given) or ("total" in given and given["total"] is None):
            changed["total"] = _sum(given.get("items", before["items"]))
        return changed


class Cases(Collection):
    """Requests and complaints."""

    table = cases
    kind = "case"
    newest_first = "opened_at"
    references: Mapping[str, Table] = {"contact_id": contacts}

    def complete(self, given: Values) -> Values:
        moment = now()
        number = given["number"] or f"C{secrets.randbelow(10**8):08d}"
        return {**given, "number": number, "opened_at": moment, "closed_at": moment if given["status"] == "closed" else None}

    def amend(self, before: Mapping[str, Any], given: Values) -> Values:
        if given.get("status", before["status"]) == before["status"]:
            return given
        return {**given, "closed_at": now() if given["status"] == "closed" else None}


class CustomObjects(Collection):
    """Records of types that the users of the CRM name."""

    table = custom_objects
    references: Mapping[str, Table] = {"contact_id": contacts, "account_id": accounts}

    def column(self, name: str) -> ColumnElement[Any]:
        inside = name.removeprefix(FIELD)
        return super().column(name) if inside == name else _field_text(inside)

    def render(self, row: Row[Any]) -> Values:
        return dict(zip(self.names, row, strict=True))


class Activities(Collection):
    """What happened with a contact."""

    table = activities
    kind = "activity"
    newest_first = "started"
    references: Mapping[str, Table] = {"contact_id": contacts}

    def complete(self, given: Values) -> Values:
        return {**given, "started": given["started"] or now()}

    def amend(self, before: Mapping[str, Any], given: Values) -> Values:
        return {**given, "started": given["started"] or before["started"]} if "started" in given else given


class Records:
    """All collections over one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.settings = settings
        self.accounts = Accounts(settings)
        self.contacts = Contacts(settings)
        self.orders = Orders(settings)
        self.cases = Cases(settings)
        self.objects = CustomObjects(settings)
        self.activities = Activities(settings)
        self._database = database

    async def find(self, collection: Collection, wanted: Values, limit: int, offset: int = 0) -> list[Values]:
        """Return the records that have all of `wanted` (column, or FIELD and the name of a custom field: value), newest first."""
        values = {f"wanted_{name}": collection.wanted(name, value) for name, value in wanted.items()}
        statement = collection.listing(tuple(wanted))
        async with self._database.reader.connect() as connection:
            found = await connection.execute(statement, {**values, "limit": limit, "offset": offset})
            return [collection.render(row) for row in found.all()]

    async def get(self, collection: Collection, record_id: str, **more: str) -> Values:
        """Return one record; `more` are columns that must match too. Raises NoSuchRecord."""
        found = await self.find(collection, {"id": record_id, **more}, 1)
        if not found:
            raise NoSuchRecord(record_id)
        return found[0]

    async def insert(self, connection: AsyncConnection, collection: Collection, given: Values, record_id: str | None = None) -> str:
        """Add a record within a transaction of `create_once` and return its id; raises InvalidValue and Conflict."""
        await self._require_references(connection, collection, given)
        moment = now()
        row = {**collection.complete(given), "id": record_id or new_id(), "created_at": moment, "updated_at": moment}
        await _execute_unique(connection, insert(collection.table).values(row))
        return str(row["id"])

    async def change(self, collection: Collection, record_id: str, given: Values, **more: str) -> None:
        """Change the named columns of one record; raises NoSuchRecord, InvalidValue and Conflict."""
        table = collection.table
        async with self._database.writer.begin() as connection:
            chosen = [table.c.id == record_id, *(table.c[name] == value for name, value in more.items())]
            before = (await connection.execute(select(table).where(*chosen))).mappings().first()
            if before is None:
                raise NoSuchRecord(record_id)
            await self._require_references(connection, collection, given)
            columns = {**collection.amend(dict(before), given), "updated_at": now()}
            await _execute_unique(connection, update(table).where(table.c.id == record_id).values(columns))

    async def create_once(
        self,
        keys: Sequence[tuple[str, str]],
        digest: str,
        make: Callable[[AsyncConnection], Awaitable[str]],
    ) -> tuple[str, bool]:
        """Return the id of what `make` made now (True), or made under one of these (operation, key) before (False).

        `digest` stands for the body of the request. Raises KeyReused where it differs from the one first seen under a key.
        """
        async with self._database.writer.begin() as connection:
            for operation, key in keys:
                statement = select(request_keys).where(request_keys.c.operation == operation, request_keys.c.key == key)
                earlier = (await connection.execute(statement)).first()
                if earlier is not None:
                    if earlier.digest != digest:
                        raise KeyReused(key)
                    return str(earlier.record_id), False
            record_id = await make(connection)
            for operation, key in keys:
                row = {"operation": operation, "key": key, "digest": digest, "record_id": record_id, "created_at": now()}
                await connection.execute(insert(request_keys).values(row))
            return record_id, True

    async def add_link(self, connection: AsyncConnection, order_id: str) -> str:
        """Add a new address of an order's status page and return its token; raises NoSuchRecord."""
        if (await connection.execute(select(orders.c.id).where(orders.c.id == order_id))).first() is None:
            raise NoSuchRecord(order_id)
        token = new_token()
        await connection.execute(insert(order_links).values(token=token, order_id=order_id, created_at=now()))
        return token

    async def order_of_token(self, token: str) -> tuple[Values, str]:
        """Return the order that a link leads to, and the language of its contact; raises NoSuchRecord."""
        linked = select(order_links.c.order_id).where(order_links.c.token == token).scalar_subquery()
        statement = self.orders.statement.where((orders.c.track_token == token) | (orders.c.id == linked))
        async with self._database.reader.connect() as connection:
            row = (await connection.execute(statement)).first()
        if row is None:
            raise NoSuchRecord("order")
        return self.orders.render(row), str(row.language)

    async def record_key(self, contact_id: str) -> str:
        """Return the key that opens a contact's page; raises NoSuchRecord."""
        async with self._database.reader.connect() as connection:
            key = await connection.scalar(select(contacts.c.record_key).where(contacts.c.id == contact_id))
        if key is None:
            raise NoSuchRecord(contact_id)
        return str(key)

    async def alive(self) -> None:
        """Return if the database answers; raises what SQLAlchemy raises."""
        async with self._database.reader.connect() as connection:
            await connection.execute(select(1))

    async def _require_references(self, connection: AsyncConnection, collection: Collection, given: Values) -> None:
        for name, table in collection.references.items():
            wanted = given.get(name)
            if wanted is not None and await connection.scalar(select(table.c.id).where(table.c.id == wanted)) is None:
                raise InvalidValue(name, "there is no such record")


def track_url(settings: Settings, token: str) -> str:
    """Return the address of an order's status page."""
    return f"{settings.base_url}/track/{token}"


def _names(columns: Iterable[ColumnElement[Any]]) -> list[str]:
    """Return the names as plain strings: SQLAlchemy's own kind cannot be a key in JSON."""
    return [str(column.name) for column in columns if isinstance(column, ColumnClause | Label)]


_CONTACT = [name for name in _names(contacts.c) if name != "reference_digits"]
_ACCOUNT = _names(accounts.c)
_ORDER = ["id", "number", "status", "total", "currency", "eta", "track_token"]


def _labelled(table: Table, prefix: str, names: Sequence[str]) -> list[ColumnElement[Any]]:
    return [table.c[name].label(prefix + name) for name in names]


def _field_text(name: str) -> ColumnElement[Any]:
    """Return a JSON field as text; `name` matches the pattern of field names, and travels as a parameter."""
    return cast(func.json_extract(custom_objects.c.fields, f"$.{name}"), String)


def _sum(items: Sequence[Mapping[str, Any]]) -> float:
    return float(round(sum(item["quantity"] * item["unit_price"] for item in items), 2))


async def _execute_unique(connection: AsyncConnection, statement: Any) -> None:
    try:
        await connection.execute(statement)
    except IntegrityError as error:
        column = str(error.orig).rpartition(".")[2]
        raise Conflict(f"another record already has this {column}") from None
