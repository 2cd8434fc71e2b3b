"""Demo data: thirty invented people. `--seed demo` adds whoever is missing and changes nobody.

These are fixed; the demo and the tests rely on them (numbers are +4930555000nnn):

| who | number | reference (as typed) | what for |
|---|---|---|---|
| Anna Schmidt | ...101 | ASC2K41 (2722541) | premium, gold, English, skills lang.en 5 and product.printers 3, order, open case |
| Ben Carter | ...102 | BCT7Q22 (2287722) | known, not premium, order and e-mail |
| Carla Diaz | ...103 | CDZ9M33 (2399633) | late payer |
| Dan Evans | ...104 | DEV5N44 (3385644) | not premium, order but no e-mail |
| Eva Fischer | ...105 | EFI6P55 (3346755) | not premium, e-mail but no order |
| Frank and Greta Gruber | ...106 | FGR8R66, GGR3S67 | two people with one number |
| Gina Haas | ...201 | GHA4P77 (4424777) | premium, calls from another number: found by reference only |
| Hugo Iglesias | ...202 | HIG5R88 (4445788) | not premium, Spanish, order and e-mail: found by reference only |

The numbers +49305550009nn are never anybody's. Keypad forms of all references differ; ids follow from the references.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from crm.records import Collection, NoSuchRecord, Records
from crm.texts import STEPS

_NAMESPACE = uuid.UUID("6f1d5a0e-6b0f-4f0e-9a52-6a3f2c1d7e11")

ACCOUNTS = {
    "A1001": ("Schmidt Druck GmbH", "Printing", "Berlin"),
    "A1002": ("Carter & Sons Ltd", "Retail", "Leeds"),
    "A1003": ("Diaz Logistics", "Logistics", "Hamburg"),
    "A1004": ("Haas Architekten", "Architecture", "München"),
    "A1005": ("Iglesias Impresiones SL", "Printing", "Valencia"),
    "A1006": ("Gruber Weingut", "Agriculture", "Mainz"),
}

ARTICLES = {
    "printers": [("PX-200", "Office printer PX-200", 349.0), ("TN-20", "Toner TN-20, black", 59.9)],
    "scanners": [("SC-80", "Document scanner SC-80", 279.0), ("RF-8", "Roller kit RF-8", 24.5)],
    "routers": [("RT-6", "Router RT-6", 189.0), ("AN-2", "Antenna pair AN-2", 19.9)],
    "labels": [("LB-1", "Label maker LB-1", 119.0), ("LT-12", "Label tape LT-12", 8.75)],
}


@dataclass(frozen=True, slots=True)
class Person:
    """One invented contact; `order` is (number, status), `case` a subject, `tail` the end of +4930555000."""

    reference: str
    first_name: str
    last_name: str
    title: str
    tail: str
    order: tuple[str, str] | None = None
    email: str | None = "example.com"
    language: str = "en"
    tier: str = "basic"
    late: bool = False
    value: float = 400.0
    product: str = "printers"
    skills: dict[str, int] = field(default_factory=dict)
    nps: int | None = None
    account: str | None = None
    case: str | None = None

    @property
    def premium(self) -> bool:
        """Gold and silver are premium."""
        return self.tier != "basic"


PEOPLE = (
    Person(
        "ASC2K41",
        "Anna",
        "Schmidt",
        "Ms",
        "101",
        ("104725", "shipped"),
        tier="gold",
        value=18450.0,
        nps=9,
        account="A1001",
        skills={"lang.en": 5, "product.printers": 3},
        case="Paper jam in tray 2",
    ),
    Person("BCT7Q22", "Ben", "Carter", "Mr", "102", ("104731", "packed"), value=640.5, nps=7, account="A1002"),
    Person("CDZ9M33", "Carla", "Diaz", "Ms", "103", ("104688", "ordered"), late=True, value=2210.0, account="A1003", product="scanners"),
    Person("DEV5N44", "Dan", "Evans", "Mr", "104", ("104702", "shipped"), email=None, product="routers"),
    Person("EFI6P55", "Eva", "Fischer", "Ms", "105", product="labels", value=0.0),
    Person("FGR8R66", "Frank", "Gruber", "Mr", "106", ("104655", "delivered"), language="de", account="A1006", product="labels"),
    Person("GGR3S67", "Greta", "Gruber", "Ms", "106", ("104718", "ordered"), language="de", account="A1006", product="routers"),
    Person(
        "GHA4P77",
        "Gina",
        "Haas",
        "Dr",
        "201",
        ("104699", "packed"),
        tier="gold",
        value=22900.0,
        nps=10,
        account="A1004",
        skills={"lang.en": 5, "product.printers": 3},
        case="Question about the maintenance contract",
    ),
    Person("HIG5R88", "Hugo", "Iglesias", "Mr", "202", ("104727", "shipped"), "example.org", "es", value=980.0, account="A1005"),
    Person(
        "JKO2A13",
        "Jana",
        "Koch",
        "Ms",
        "203",
        ("104601", "delivered"),
        language="de",
        tier="silver",
        value=5400.0,
        skills={"lang.de": 5, "product.scanners": 4},
        product="scanners",
        nps=8,
    ),
    Person("KLM3B24", "Karim", "Lahmar", "Mr", "204", ("104733", "ordered"), value=310.0, product="routers"),
    Person(
        "LMO4C35",
        "Lucía",
        "Moreno",
        "Ms",
        "205",
        ("104644", "shipped"),
        "example.org",
        "es",
        "silver",
        value=7120.0,
        skills={"lang.es": 5, "product.printers": 4},
        nps=9,
    ),
    Person("MNE5D46", "Max", "Neumann", "Mr", "206", ("104590", "delivered"), language="de", product="labels"),
    Person(
        "NOB6E57",
        "Nora",
        "O'Brien",
        "Ms",
        "207",
        ("104735", "packed"),
        tier="gold",
        value=15300.0,
        skills={"lang.en": 6, "product.routers": 5},
        product="routers",
        case="Router restarts at night",
    ),
    Person("OPE7F68", "Óscar", "Peña", "Mr", "208", ("104612", "cancelled"), "example.org", "es", product="scanners"),
    Person("PQU8G79", "Petra", "Quandt", "Ms", "209", ("104736", "ordered"), language="de", late=True, product="printers"),
    Person("QRO9H82", "Quentin", "Rowe", "Mr", "210", value=0.0, product="labels"),
    Person("RSA2J93", "Rosa", "Sanz", "Ms", "211", ("104668", "shipped"), "example.org", "es", product="labels"),
    Person(
        "STH3K14",
        "Samuel",
        "Thorn",
        "Mr",
        "212",
        ("104670", "delivered"),
        tier="silver",
        value=6100.0,
        skills={"lang.en": 4, "product.scanners": 3},
        product="scanners",
    ),
    Person(
        "TUL4L25",
        "Tilda",
        "Ulrich",
        "Ms",
        "213",
        ("104671", "packed"),
        language="de",
        tier="gold",
        value=30200.0,
        skills={"lang.de": 6, "product.printers": 6, "contract.lease": 2},
        nps=10,
    ),
    Person("UVA5M36", "Uma", "Varga", "Ms", "214", ("104672", "shipped"), product="routers", nps=6),
    Person("VWE6N47", "Viktor", "Weiss", "Mr", "215", ("104673", "ordered"), language="de", case="Invoice names the wrong company"),
    Person(
        "WXI7P58",
        "Wanda",
        "Xiang",
        "Ms",
        "216",
        ("104674", "delivered"),
        tier="silver",
        value=4800.0,
        skills={"lang.en": 4, "product.labels": 4},
        product="labels",
    ),
    Person("XYA8Q69", "Xavier", "Yáñez", "Mr", "217", ("104675", "shipped"), "example.org", "es", late=True),
    Person("YZI9R72", "Yara", "Zimmer", "Ms", "218", ("104676", "packed"), language="de", product="scanners"),
    Person("ZAB2S83", "Zoe", "Abbott", "Ms", "219", email=None, value=0.0, product="routers"),
    Person("ACR3T94", "Amir", "Crane", "Mr", "220", ("104677", "delivered"), nps=4, case="Delivery was left in the rain"),
    Person(
        "BDU4U15",
        "Birgit",
        "Dunkel",
        "Ms",
        "221",
        ("104678", "shipped"),
        language="de",
        tier="silver",
        value=3900.0,
        skills={"lang.de": 4, "product.routers": 3},
        product="routers",
    ),
    Person(
        "CEL5V26",
        "Clara",
        "Elías",
        "Ms",
        "222",
        ("104679", "ordered"),
        "example.org",
        "es",
        "gold",
        value=12750.0,
        skills={"lang.es": 6, "product.scanners": 4},
        product="scanners",
    ),
    Person("DFO6W37", "David", "Forster", "Mr", "223", ("104680", "packed"), product="labels"),
)


def demo_id(kind: str, name: str) -> str:
    """Return the id that a demo record always has."""
    return uuid.uuid5(_NAMESPACE, f"{kind}/{name}").hex


async def seed(records: Records) -> int:
    """Add the demo records that are missing; return the number of people added."""
    added = 0
    for number, (name, industry, city) in ACCOUNTS.items():
        await _add(records, records.accounts, "account", number, _account(number, name, industry, city))
    for index, person in enumerate(PEOPLE):
        added += await _add(records, records.contacts, "contact", person.reference, _contact(person))
        if person.order is not None:
            await _add(records, records.orders, "order", person.order[0], _order(person, *person.order, index))
        if person.case is not None:
            await _add(records, records.cases, "case", person.reference, _case(person))
        await _add(records, records.activities, "activity", person.reference, _activity(person, index))
    return added


async def _add(records: Records, collection: Collection, kind: str, name: str, given: dict[str, Any]) -> bool:
    record_id = demo_id(kind, name)
    try:
        await records.get(collection, record_id)
    except NoSuchRecord:
        pass
    else:
        return False

    async def make(connection: AsyncConnection) -> str:
        return await records.insert(connection, collection, given, record_id)

    await records.create_once([], "", make)
    return True


def _account(number: str, name: str, industry: str, city: str) -> dict[str, Any]:
    return {"name": name, "number": number, "industry": industry, "city": city, "website": None}


def _contact(person: Person) -> dict[str, Any]:
    local = f"{person.first_name}.{person.last_name}".lower().translate(str.maketrans("áéíóúñ'", "aeioun-"))
    return {
        "reference": person.reference,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "title": person.title,
        "phone": f"+4930555000{person.tail}",
        "email": f"{local}@{person.email}" if person.email else None,
        "language": person.language,
        "premium": person.premium,
        "tier": person.tier,
        "late_payment": person.late,
        "customer_value": person.value,
        "product": person.product,
        "skills": person.skills,
        "nps": person.nps,
        "account_id": demo_id("account", person.account) if person.account else None,
    }


def _order(person: Person, number: str, status: str, index: int) -> dict[str, Any]:
    path = STEPS[: STEPS.index(status) + 1] if status in STEPS else ("ordered", status)
    placed = _hours_ago(30 * len(path) + index % 7)
    items = [{"sku": sku, "name": name, "quantity": 1 + index % 3, "unit_price": price} for sku, name, price in ARTICLES[person.product]]
    return {
        "contact_id": demo_id("contact", person.reference),
        "number": number,
        "status": status,
        "items": items,
        "total": None,
        "currency": "EUR",
        "eta": (datetime.now(UTC) + timedelta(days=1 + index % 4)).date().isoformat() if status in STEPS[:3] else None,
        "placed_at": _text(placed),
        "status_history": [
            {"status": step, "at": _text(placed + timedelta(hours=26 * turn)), "note": None} for turn, step in enumerate(path)
        ],
    }


def _case(person: Person) -> dict[str, Any]:
    return {
        "contact_id": demo_id("contact", person.reference),
        "number": f"C{person.reference}",
        "subject": person.case,
        "description": None,
        "status": "open",
        "priority": "high" if person.premium else "normal",
    }


def _activity(person: Person, index: int) -> dict[str, Any]:
    return {
        "kind": "call",
        "contact_id": demo_id("contact", person.reference),
        "subject": "Asked about prices",
        "outcome": "answered",
        "disposition": "information",
        "remarks": None,
        "started": _text(_hours_ago(24 * (20 + index))),
        "duration": 95.0 + 7 * index,
        "agent": f"agent-{101 + index % 6}",
        "campaign": None,
        "external_id": None,
    }


def _hours_ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
