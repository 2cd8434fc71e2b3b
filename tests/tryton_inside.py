"""What is done with Tryton's own libraries, in the environment that Tryton is installed in: run by `tests/tryton.py`, never imported.

tryton_inside.py prepare CONFIG KEY     proteus, in process: a company, and a user application key for REST
tryton_inside.py add URL KEY            naiad, Tryton's library for its REST API: parties from JSON on standard input; their ids
"""

from __future__ import annotations

import json
import os
import sys


def prepare(config_file: str, key: str) -> None:
    from proteus import Model, config

    user = config.set_trytond("sqlite:///crm", config_file=os.path.abspath(config_file)).user
    currency = Model.get("currency.currency")(name="Euro", code="EUR", symbol="EUR")
    currency.save()
    party = Model.get("party.party")(name="Acme")
    party.save()
    company = Model.get("company.company")(party=party, currency=currency)
    company.save()
    administrator = Model.get("res.user")(user)
    administrator.companies.append(Model.get("company.company")(company.id))
    administrator.company = Model.get("company.company")(company.id)
    administrator.save()
    application = Model.get("res.user.application")(application="rest", user=Model.get("res.user")(user))
    application.key = key
    application.save()


def add(url: str, key: str) -> None:
    from naiad import Client, Record

    client, ids = Client(url, key), []
    for given in json.load(sys.stdin):
        party = Record("party.party")
        party.name, party.code = given["name"], given["code"]
        party.contact_mechanisms = [_mechanism(Record, kind, value) for kind, value in given["mechanisms"]]
        party.identifiers = [_identifier(Record, code) for code in given.get("identifiers", [])]
        ids.append(client.store(party).id)
    json.dump(ids, sys.stdout)


def _mechanism(record: type, kind: str, value: str) -> object:
    made = record("party.contact_mechanism")
    made.type, made.value = kind, value
    return made


def _identifier(record: type, code: str) -> object:
    made = record("party.identifier")
    made.code = code
    return made


if __name__ == "__main__":
    {"prepare": prepare, "add": add}[sys.argv[1]](*sys.argv[2:])
