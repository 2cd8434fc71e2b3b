"""The tables of the CRM.

Times are text, UTC, ISO 8601 with a `Z` (`2026-03-01T09:30:00Z`): they sort as they read. Ids are 32 hexadecimal digits.
Skills, items, history and custom fields are JSON inside their record, because they are only ever read and written with it.
A change here needs a migration in `crm/migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("number", String(40), nullable=True, unique=True),
    Column("industry", String(60), nullable=True),
    Column("city", String(80), nullable=True),
    Column("website", String(200), nullable=True),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

contacts = Table(
    "contacts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("reference", String(7), nullable=True, unique=True),  # upper case
    Column("reference_digits", String(7), nullable=True),  # the same as typed on a telephone's keys
    Column("first_name", String(80), nullable=False),
    Column("last_name", String(80), nullable=False),
    Column("title", String(20), nullable=True),
    Column("phone", String(20), nullable=True),  # E.164
    Column("email", String(254), nullable=True),
    Column("language", String(2), nullable=False),
    Column("premium", Boolean, nullable=False),
    Column("tier", String(10), nullable=False),
    Column("late_payment", Boolean, nullable=False),
    Column("customer_value", Float, nullable=False),
    Column("product", String(60), nullable=True),
    Column("skills", JSON, nullable=False),  # {name: level}
    Column("nps", Integer, nullable=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=True),
    Column("record_key", String(32), nullable=False),  # opens this contact's page, and only this one
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("contacts_phone", "phone"),
    Index("contacts_reference_digits", "reference_digits"),
    Index("contacts_email", "email"),
    Index("contacts_account", "account_id"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("number", String(40), nullable=False, unique=True),
    Column("contact_id", String(32), ForeignKey("contacts.id"), nullable=False),
    Column("status", String(20), nullable=False),
    Column("status_history", JSON, nullable=False),  # [{status, at, note}], oldest first
    Column("items", JSON, nullable=False),  # [{sku, name, quantity, unit_price}]
    Column("total", Float, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("eta", String(10), nullable=True),  # a date
    Column("placed_at", String(32), nullable=False),
    Column("track_token", String(32), nullable=False, unique=True),  # the order's own link
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("orders_contact", "contact_id", "placed_at", "id"),
)

order_links = Table(
    "order_links",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("order_id", String(32), ForeignKey("orders.id"), nullable=False),
    Column("created_at", String(32), nullable=False),
    Index("order_links_order", "order_id"),
)

cases = Table(
    "cases",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("number", String(40), nullable=False, unique=True),
    Column("contact_id", String(32), ForeignKey("contacts.id"), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("description", Text, nullable=True),
    Column("status", String(20), nullable=False),
    Column("priority", String(20), nullable=False),
    Column("opened_at", String(32), nullable=False),
    Column("closed_at", String(32), nullable=True),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("cases_contact", "contact_id", "status"),
)

custom_objects = Table(
    "custom_objects",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("type", String(40), nullable=False),
    Column("name", String(200), nullable=False),
    Column("contact_id", String(32), ForeignKey("contacts.id"), nullable=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=True),
    Column("fields", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("custom_objects_type", "type", "contact_id"),
)

activities = Table(
    "activities",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("contact_id", String(32), ForeignKey("contacts.id"), nullable=True),
    Column("subject", String(200), nullable=False),
    Column("outcome", String(60), nullable=True),
    Column("disposition", String(60), nullable=True),
    Column("remarks", Text, nullable=True),
    Column("started", String(32), nullable=False),
    Column("duration", Float, nullable=True),  # seconds
    Column("agent", String(120), nullable=True),
    Column("campaign", String(120), nullable=True),
    Column("external_id", String(200), nullable=True, unique=True),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Index("activities_contact", "contact_id", "started"),
)

request_keys = Table(
    "request_keys",
    metadata,
    Column("operation", String(80), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),  # of the request's body
    Column("record_id", String(32), nullable=False),  # what that request made
    Column("created_at", String(32), nullable=False),
)
