"""What a caller hears of telephones that ring, and how two who talk are bridged.

The ringing of a leg in the caller's bridge makes a tone for the caller, which ends the music. It can be dropped at the leg, but what drops
it stays there, and Asterisk then passes every packet of the conversation through its whole machinery. Where the country of its tones is
known, the caller's channel gets those of a country without ringing instead. When the two talk it gets the other's back, and the bridge is
looked at again: it becomes a native one, in which packets are passed on as they come.
"""

from __future__ import annotations

from functools import partial

from app.pbx import requests
from app.pbx.book import Caller
from app.pbx.orders import Orders

NO_RINGING = "callwright"
"""The country in `callwright-indications.conf` in whose tones there is no ringing."""


class Tones:
    """The tones of all callers; `country` is Asterisk's own, "" when it is not known."""

    def __init__(self, orders: Orders, country: str) -> None:
        self._orders, self.country = orders, country

    def hush(self, caller: Caller) -> str:
        """The country whose tones a caller gets who is to hear no ringing, to be set with the next variables; "" where none is known."""
        caller.hushed = bool(self.country)
        return NO_RINGING if caller.hushed else ""

    def before_ringing(self, caller: Caller) -> None:
        """A leg is about to be asked for. A channel that plays takes no variables: that leg's ringing is dropped."""
        if self.country and not (caller.left or caller.hushed or caller.playing):
            self._orders.send(caller, None, requests.variables(caller, {}, self.hush(caller)))

    def talk(self, caller: Caller) -> None:
        """The caller and a leg talk, as soon as nothing plays."""
        caller.hushed = False
        if self.country:
            request = requests.variables(caller, {}, self.country, look_again=True)
            self._orders.when_quiet(caller, partial(self._orders.send, caller, None, request))
