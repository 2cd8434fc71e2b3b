"""What an action file only names: the base address of a system and the secrets to ask it with.

They come from the environment or from files that only we can read, are wrapped so that no log or error shows them, and
become one ready header when the actions are built.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator
from yarl import URL


class Credentials(BaseModel):
    """Access to one system. `token_file` and `password_file` are read once, and each excludes its plain form."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str = ""
    token: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    token_file: Path | None = None
    password_file: Path | None = None

    @field_validator("base_url")
    @classmethod
    def _address_only(cls, value: str) -> str:
        url = URL(value)
        if value and (url.scheme not in ("http", "https") or not url.host or url.user or url.query_string or url.fragment):
            raise ValueError(f"expected an address such as https://crm.example/api, without a user, ? or #, found {url.with_user(None)}")
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for secret in ("token", "password"):
            file = filled.get(f"{secret}_file")
            if file and filled.get(secret):
                raise ValueError(f"expected {secret} or {secret}_file, found both")
            if file:
                try:
                    filled[secret] = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise ValueError(f"{secret}_file {file} cannot be read: {type(error).__name__}") from error
        return filled

    def header(self, scheme: str) -> str:
        """The `Authorization` header for `bearer` or `basic`, "" for `none`; raises `ValueError` when the secret is missing."""
        if scheme == "none":
            return ""
        if scheme == "bearer":
            if not self.token.get_secret_value():
                raise ValueError("there is no token")
            return f"Bearer {self.token.get_secret_value()}"
        if not self.username or not self.password.get_secret_value():
            raise ValueError("there is no user name or no password")
        pair = f"{self.username}:{self.password.get_secret_value()}"
        return f"Basic {b64encode(pair.encode()).decode()}"
