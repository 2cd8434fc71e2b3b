"""Telephone numbers and customer references, in the forms by which they are found."""

from __future__ import annotations

import phonenumbers

MIN_DIGITS = 7  # country code included: some plans allow local numbers of two digits, which are extensions when they call
_KEYS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")


def e164(text: str, region: str) -> str | None:
    """Return `text` as E.164 (`+4930555000101`), read as dialled in `region` (`DE`); None where it is no possible number."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    found = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return found if len(found) > MIN_DIGITS else None


def keypad(reference: str) -> str:
    """Return the digits that a caller types for `reference`: `7F3A21K` is `7332215`."""
    return reference.upper().translate(_KEYS)
