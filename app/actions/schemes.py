"""Authentication schemes: the part `auth` of an action file. It says how a request proves who asks, never with what.

    none
    basic            username, password                       Authorization: Basic
    bearer           token                                    Authorization: Bearer
    api_key          api_key                                  the header or query parameter `name`, after `prefix`
    oauth2_client    client_id, client_secret                 client credentials grant (RFC 6749, 4.4)
    oauth2_refresh   client_id, client_secret?, refresh_token refresh token grant (RFC 6749, 6)
    oauth2_jwt       client_id, username, private_key         JWT bearer grant (RFC 7523): RS256 over iss, sub, aud, iat, exp

The second column is what the settings hold under `[systems.<credentials>]`, each secret also as `<secret>_file`. Of the OAuth2
schemes the file says the `token_url`, `scope`, for JWT the `audience` (the token_url unless said otherwise), how the client shows
itself (`client`: `body` or `basic`), form fields beyond these (`extra`), and the `lifetime` in seconds of a token whose answer says none.
All of these are templates over `{{ base_url }}` and `{{ settings.<name> }}`; a `token_url` in the settings wins over the file's.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, model_validator

from . import templates
from .parts import Part, checked, own_address

OAUTH2: Final = ("oauth2_client", "oauth2_refresh", "oauth2_jwt")
NEEDS: Final = {
    "none": (),
    "basic": ("username", "password"),
    "bearer": ("token",),
    "api_key": ("api_key",),
    "oauth2_client": ("client_id", "client_secret"),
    "oauth2_refresh": ("client_id", "refresh_token"),
    "oauth2_jwt": ("client_id", "username", "private_key"),
}
_OF_API_KEY: Final = {"in", "name", "prefix"}
_OF_OAUTH2: Final = {"token_url", "scope", "client", "extra", "lifetime", "audience"}


class Auth(Part):
    """How the request proves who asks. `credentials` names what the settings hold: secrets and `base_url`."""

    scheme: Literal["none", "basic", "bearer", "api_key", "oauth2_client", "oauth2_refresh", "oauth2_jwt"]
    credentials: str = ""
    place: Literal["header", "query"] = Field(default="header", alias="in")
    name: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,60}$")
    prefix: str = Field(default="", pattern=r"^[ -~]{0,40}$")
    token_url: str = ""
    scope: str = ""
    audience: str = ""
    client: Literal["body", "basic"] = "body"
    extra: dict[str, str] = Field(default_factory=dict)
    lifetime: float = Field(default=1800.0, ge=30, le=86_400)

    @model_validator(mode="after")
    def _scheme_is_whole(self) -> Auth:
        if self.scheme != "none" and not self.credentials:
            raise ValueError(f"expected the name of the credentials that {self.scheme} needs")
        given = {"in" if field == "place" else field for field in self.model_fields_set}
        foreign = given & ((_OF_API_KEY if self.scheme != "api_key" else set()) | (_OF_OAUTH2 if not self.oauth2 else set()))
        if self.scheme in ("oauth2_client", "oauth2_refresh"):
            foreign |= given & {"audience"}
        if foreign:
            raise ValueError(f"expected no {sorted(foreign)[0]}, which {self.scheme} does not use")
        if self.scheme == "api_key" and not self.name:
            raise ValueError("expected the name of the header or query parameter that holds the key")
        if self.oauth2 and not self.token_url:
            raise ValueError("expected a token_url, where tokens are asked for")
        return self

    @property
    def oauth2(self) -> bool:
        """Whether a token has to be asked for first."""
        return self.scheme in OAUTH2

    def check(self, settings: set[str]) -> None:
        """Raises `ValueError` for a template that uses what is not declared."""
        if not self.oauth2:
            return
        try:
            own = own_address(self.token_url)
        except ValueError as error:
            raise ValueError(f"auth.token_url: {error}") from error
        checked("auth.token_url", templates.address, own, settings)
        for where, source in {"scope": self.scope, "audience": self.audience, **{f"extra.{k}": v for k, v in self.extra.items()}}.items():
            checked(f"auth.{where}", templates.text, source, settings | {"base_url"})
