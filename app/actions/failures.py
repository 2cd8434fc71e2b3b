"""Why an action fails."""

from __future__ import annotations


class Failed(Exception):
    """The request failed; `reason` as in `ActionFailed`.

    `passing`: asking again may help; `system_at_fault`: the breaker counts it; `wait`: seconds that the system asks to be left alone.
    The detail names what was wrong, never a value of a call or a secret.
    """

    def __init__(
        self, reason: str, detail: str = "", passing: bool = False, system_at_fault: bool = True, wait: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.passing, self.system_at_fault, self.wait = reason, detail, passing, system_at_fault, wait

    def again(self) -> Failed:
        """The same failure for another request that it meets."""
        return Failed(self.reason, self.detail, self.passing, self.system_at_fault, self.wait)
