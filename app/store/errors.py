"""What can go wrong with the store. Each text is written for the person who runs the installation."""

from __future__ import annotations


class StoreError(Exception):
    """The store did not do it. After a failed commit hand the same content in again, with more if there is more."""


class StoreBusy(StoreError):
    """Another connection holds the database; nothing was written; try again."""


class StoreFull(StoreError):
    """No room on the disk; nothing was written; try again when there is."""


class StoreRefused(StoreError):
    """The database or its key file cannot be used as it is. It was left untouched; the text says why and what to do."""


class StoreClash(StoreError):
    """A row is there already that this process thought to be new."""


class LeaseHeld(StoreError):
    """Another process is the writer. `holder` is its id; it can be asked again in `seconds`."""

    def __init__(self, holder: str, seconds: float) -> None:
        super().__init__(f"another process holds the lease: {holder}; try again in {seconds:.1f} s")
        self.holder = holder
        self.seconds = seconds


class LeaseLost(StoreError):
    """This process is not the writer any more: another took the lease, or one must be acquired. Nothing was written."""


class Forgotten(StoreError):
    """The call's data key was deleted on request: what was said in it cannot be read by anybody."""

    def __init__(self, call: str) -> None:
        super().__init__(f"call {call} was forgotten: its key is deleted")
        self.call = call
