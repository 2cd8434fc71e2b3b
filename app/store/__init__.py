"""The store: schema, journal, live rows, history, sealing, the lease, migrations."""

from __future__ import annotations

from app.store.batch import Batch, Record, Recovered
from app.store.errors import Forgotten, LeaseHeld, LeaseLost, StoreBusy, StoreClash, StoreError, StoreFull, StoreRefused
from app.store.lease import TTL, Holder
from app.store.reading import Journal
from app.store.store import FACTS_DAYS, Store

__all__ = [
    "FACTS_DAYS",
    "TTL",
    "Batch",
    "Forgotten",
    "Holder",
    "Journal",
    "LeaseHeld",
    "LeaseLost",
    "Record",
    "Recovered",
    "Store",
    "StoreBusy",
    "StoreClash",
    "StoreError",
    "StoreFull",
    "StoreRefused",
]
