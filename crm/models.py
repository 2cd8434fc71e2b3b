"""The shapes of what the API takes and gives: validation of input and the source of the OpenAPI document.

`...Create` is a POST body, `...Change` a PATCH body (merge: an absent field stays, `null` empties a field that may be empty),
`...Query` the query string of a list; the plain name is the record as it is given. Every record has `type` and `id`.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    create_model,
    model_validator,
)

MAX_SKILLS = 5
MAX_JSON_DEPTH = 8

_INVISIBLE = {"Cc", "Cs", "Co", "Cn"}
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def _printable(text: str) -> str:
    for character in text:
        if character in _BIDI or (unicodedata.category(character) in _INVISIBLE and character not in "\n\t"):
            raise ValueError(f"must not contain the character U+{ord(character):04X}")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text:
        raise ValueError("must be one line")
    return _printable(text)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _shallow(value: Any, room: int = MAX_JSON_DEPTH) -> Any:
    if isinstance(value, dict | list):
        if room == 0:
            raise ValueError(f"must not be nested deeper than {MAX_JSON_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            _shallow(inner, room - 1)
    elif isinstance(value, str):
        _printable(value)
    elif isinstance(value, int | float) and abs(value) >= 2**53:
        raise ValueError("must hold no number beyond 2^53")
    return value


Line20 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20), AfterValidator(_one_line)]
Line60 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60), AfterValidator(_one_line)]
Line120 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(_one_line)]
Line200 = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_one_line)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=8000), AfterValidator(_printable)]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{7}$", to_upper=True)]
Email = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}$", max_length=254)
]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40), AfterValidator(_one_line)]
Moment = Annotated[AwareDatetime, PlainSerializer(_utc)]
Day = Annotated[date, PlainSerializer(date.isoformat)]
SkillName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_-]+)*$", max_length=40)]
Level = Annotated[int, Field(ge=1, le=10)]
Skills = Annotated[dict[SkillName, Level], Field(max_length=MAX_SKILLS)]
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), AfterValidator(lambda amount: round(amount, 2))]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
Fields = Annotated[dict[FieldName, JsonValue], Field(max_length=64), AfterValidator(_shallow)]
FieldText = Annotated[str, StringConstraints(max_length=200)]
Language = Literal["en", "de", "es"]
Tier = Literal["gold", "silver", "basic"]
OrderStatus = Literal["ordered", "packed", "shipped", "delivered", "cancelled"]
CaseStatus = Literal["open", "pending", "closed"]
Priority = Literal["low", "normal", "high"]
ActivityKind = Literal["call", "email", "sms", "chat", "callback", "note"]


class Model(BaseModel):
    """Common rules: no unknown fields, no silent conversions of JSON types."""

    model_config = ConfigDict(extra="forbid")


class Body(Model):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(Model):
    """A query string: every value arrives as text."""


class Page(Query):
    """The window of a list."""

    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000)


# --- accounts -------------------------------------------------------------------------------------------------------


class AccountCreate(Body):
    """A company."""

    type: Literal["account"] = "account"
    name: Line120
    number: Line20 | None = None
    industry: Line60 | None = None
    city: Line60 | None = None
    website: Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"']{1,190}$")] | None = None


class Account(AccountCreate):
    """A company as given."""

    id: Id
    created_at: str
    updated_at: str


class AccountQuery(Page):
    """Accounts by exact name or number."""

    name: Line120 | None = None
    number: Line20 | None = None


# --- orders ---------------------------------------------------------------------------------------------------------


class Item(Body):
    """One line of an order."""

    sku: Line60
    name: Line120
    quantity: int = Field(ge=1, le=100_000)
    unit_price: Money


class StatusEntry(Body):
    """One step in the life of an order."""

    status: OrderStatus
    at: str
    note: str | None = None


class OrderCreate(Body):
    """An order; `number` is given out when absent, `total` is the sum of the items when absent."""

    type: Literal["order"] = "order"
    contact_id: Id
    number: Line20 | None = None
    status: OrderStatus = "ordered"
    items: list[Item] = Field(default_factory=list, max_length=100)
    total: Money | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "EUR"
    eta: Annotated[Day, Field(strict=False)] | None = None
    placed_at: Annotated[Moment, Field(strict=False)] | None = None


class Order(Model):
    """An order as given; `status_text` completes "Your order <number> ..." in the contact's language."""

    type: Literal["order"]
    id: Id
    number: str
    contact_id: Id
    status: OrderStatus
    status_text: str
    status_history: list[StatusEntry]
    items: list[Item]
    total: float
    currency: str
    eta: str | None
    placed_at: str
    track_url: str
    created_at: str
    updated_at: str


class LastOrder(Model):
    """The latest order of a contact, as much as a call needs."""

    type: Literal["order"]
    id: Id
    number: str
    status: OrderStatus
    status_text: str
    total: float
    currency: str
    eta: str | None
    track_url: str


class OrderQuery(Page):
    """Orders of a contact, by number or status; latest first."""

    contact_id: Id | None = None
    number: Line20 | None = None
    status: OrderStatus | None = None


class LinkCreate(Body):
    """Nothing to say: a link belongs to the order in the address."""


class Link(Model):
    """A new unguessable address of the order's status page."""

    type: Literal["order_link"]
    id: str
    order_id: Id
    url: str
    token: str


# --- contacts -------------------------------------------------------------------------------------------------------


class ContactCreate(Body):
    """A person; `phone` is kept as E.164."""

    type: Literal["contact"] = "contact"
    reference: Reference | None = None
    first_name: Line60
    last_name: Line60
    title: Line20 | None = None
    phone: Phone | None = None
    email: Email | None = None
    language: Language = "en"
    premium: bool = False
    tier: Tier = "basic"
    late_payment: bool = False
    customer_value: Money = 0.0
    product: Line60 | None = None
    skills: Skills = Field(default_factory=dict)
    nps: Annotated[int, Field(ge=0, le=10)] | None = None
    account_id: Id | None = None


class Contact(ContactCreate):
    """A person as given: everything that a call needs, in one answer. `record_url` opens the record's page as it is."""

    id: Id
    account: Account | None
    last_order: LastOrder | None
    open_cases: int
    record_url: str
    created_at: str
    updated_at: str


class ContactQuery(Page):
    """Contacts by number, by reference, or by the reference as typed on a telephone's keys."""

    phone: Annotated[str, StringConstraints(max_length=40, pattern=r"[0-9]")] | None = None
    reference: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,20}$")] | None = None
    reference_digits: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")] | None = None
    email: Email | None = None
    account_id: Id | None = None


# --- cases ----------------------------------------------------------------------------------------------------------


class CaseCreate(Body):
    """A request or complaint; `number` is given out when absent."""

    type: Literal["case"] = "case"
    contact_id: Id
    number: Line20 | None = None
    subject: Line200
    description: Note | None = None
    status: CaseStatus = "open"
    priority: Priority = "normal"


class Case(Model):
    """A case as given."""

    type: Literal["case"]
    id: Id
    number: str
    contact_id: Id
    subject: str
    description: str | None
    status: CaseStatus
    priority: Priority
    opened_at: str
    closed_at: str | None
    created_at: str
    updated_at: str


class CaseQuery(Page):
    """Cases of a contact, by number or status; latest first."""

    contact_id: Id | None = None
    number: Line20 | None = None
    status: CaseStatus | None = None


# --- custom objects -------------------------------------------------------------------------------------------------


class ObjectCreate(Body):
    """A record of a type of your own (the type stands in the address)."""

    name: Line200
    contact_id: Id | None = None
    account_id: Id | None = None
    fields: Fields = Field(default_factory=dict)


class CustomObject(Model):
    """A custom object as given; `type` is the name of its type."""

    type: str
    id: Id
    name: str
    contact_id: Id | None
    account_id: Id | None
    fields: dict[str, JsonValue]
    created_at: str
    updated_at: str


class ObjectQuery(Page):
    """Custom objects of one type; any other parameter `fields.<name>=<value>` compares a field's value as text."""

    name: Line200 | None = None
    contact_id: Id | None = None
    account_id: Id | None = None
    fields: dict[FieldName, FieldText] = Field(default_factory=dict, max_length=8)

    @model_validator(mode="before")
    @classmethod
    def _gather_fields(cls, given: Any) -> Any:
        named = {key.removeprefix("fields."): value for key, value in given.items() if key.startswith("fields.")}
        plain = {key: value for key, value in given.items() if not key.startswith("fields.")}
        if "fields" in plain:
            raise ValueError("write fields.<name>=<value>")
        return {**plain, "fields": named}


# --- activities -----------------------------------------------------------------------------------------------------


class ActivityCreate(Body):
    """Something that happened with a contact. The same `external_id` makes one record, however often it is sent."""

    type: Literal["activity"] = "activity"
    kind: ActivityKind = "call"
    contact_id: Id | None = None
    subject: Line200
    outcome: Line60 | None = None
    disposition: Line60 | None = None
    remarks: Note | None = None
    started: Annotated[Moment, Field(strict=False)] | None = None
    duration: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    agent: Line120 | None = None
    campaign: Line120 | None = None
    external_id: Line200 | None = None


class Activity(Model):
    """An activity as given; `duration` in seconds."""

    type: Literal["activity"]
    id: Id
    kind: ActivityKind
    contact_id: Id | None
    subject: str
    outcome: str | None
    disposition: str | None
    remarks: str | None
    started: str
    duration: float | None
    agent: str | None
    campaign: str | None
    external_id: str | None
    created_at: str
    updated_at: str


class ActivityQuery(Page):
    """Activities of a contact, of a campaign, or by the id that their sender gave; latest first."""

    contact_id: Id | None = None
    campaign: Line120 | None = None
    external_id: Line200 | None = None


# --- changes, lists, problems ---------------------------------------------------------------------------------------


def _change_of(model: type[Body], name: str, without: str = "", **more: Any) -> type[Body]:
    """Return the PATCH body of a POST body: every field but those of `without` may be absent; only a nullable one may be null."""
    fields: dict[str, Any] = {
        key: (field.rebuild_annotation(), None) for key, field in model.model_fields.items() if key not in without.split()
    }
    return create_model(name, __base__=Body, __module__=__name__, __doc__=f"A change: {model.__doc__}", **fields, **more)


AccountChange = _change_of(AccountCreate, "AccountChange", "type")
ContactChange = _change_of(ContactCreate, "ContactChange", "type")
OrderChange = _change_of(OrderCreate, "OrderChange", "type contact_id number currency placed_at", status_note=(Line200 | None, None))
CaseChange = _change_of(CaseCreate, "CaseChange", "type contact_id number")
ObjectChange = _change_of(ObjectCreate, "ObjectChange")
ActivityChange = _change_of(ActivityCreate, "ActivityChange", "type external_id")


def list_of(model: type[BaseModel]) -> type[BaseModel]:
    """Return the answer of a list of `model`: `count` is the number of results in this answer."""
    name = re.sub(r"y$", "ie", model.__name__) + "s"
    return create_model(name + "Found", __base__=Model, __doc__=f"{name} that match.", results=(list[model], ...), count=(int, ...))  # type: ignore[valid-type]


class ProblemError(Model):
    """One thing wrong with the input: `pointer` into the body (RFC 6901) or the name of a query `parameter`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemDetails(Model):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str | None = None
    request_id: str
    errors: list[ProblemError] = Field(default_factory=list)
