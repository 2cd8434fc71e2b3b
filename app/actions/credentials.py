"""What an action file only names: the base address of a system, the secrets to ask it with, and what else differs between installations.

They come from the settings file, the environment (`CALLWRIGHT_SYSTEMS__CRM__TOKEN`) or files that only we can read (`token_file`),
are wrapped so that no log or error shows them, and become ready headers or token requests when the actions are built.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator
from yarl import URL

from .parts import Setting
from .schemes import NEEDS

SECRETS: Final = ("token", "password", "api_key", "client_secret", "refresh_token", "private_key", "database")


class Credentials(BaseModel):
    """Access to one system. A `<secret>_file` is read once, and excludes its plain form.

    `username` is also whom an OAuth2 JWT speaks for, `private_key` its RSA key (PEM). `database` is the address of a database (sqlite:// or
    postgresql://), a secret since a password may be in it. `settings` are the values that a connector declares under `settings`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str = ""
    token: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    api_key: SecretStr = SecretStr("")
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    refresh_token: SecretStr = SecretStr("")
    private_key: SecretStr = SecretStr("")
    database: SecretStr = SecretStr("")
    token_url: str = ""
    settings: dict[str, str] = {}
    token_file: Path | None = None
    password_file: Path | None = None
    api_key_file: Path | None = None
    client_secret_file: Path | None = None
    refresh_token_file: Path | None = None
    private_key_file: Path | None = None
    database_file: Path | None = None

    @field_validator("base_url", "token_url")
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
        for secret in SECRETS:
            file = filled.get(f"{secret}_file")
            if file and filled.get(secret):
                raise ValueError(f"expected {secret} or {secret}_file, found both")
            if file:
                try:
                    filled[secret] = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise ValueError(f"{secret}_file {file} cannot be read: {type(error).__name__}") from error
        return filled

    def secret(self, name: str) -> str:
        """The plain text of a secret or user name, "" where there is none."""
        value = getattr(self, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    def lacks(self, scheme: str) -> str:
        """What a scheme needs and these credentials do not have, in words; "" when they are whole."""
        missing = [name.replace("_", " ") for name in NEEDS[scheme] if not self.secret(name)]
        return f"there is no {' and no '.join(missing)}" if missing else ""

    def header(self, scheme: str) -> str:
        """The `Authorization` header for `bearer` or `basic`, "" for any other scheme; raises `ValueError` when a secret is missing."""
        lacking = self.lacks(scheme)
        if lacking:
            raise ValueError(lacking)
        if scheme == "bearer":
            return f"Bearer {self.secret('token')}"
        return basic(self.username, self.secret("password")) if scheme == "basic" else ""

    def chosen(self, declared: dict[str, Setting]) -> dict[str, str]:
        """The value of each declared setting; raises `ValueError` for one that has none."""
        values = {name: self.settings.get(name, setting.default) for name, setting in declared.items()}
        for name, value in values.items():
            if value is None:
                raise ValueError(f"there is no setting {name!r}")
        return {name: value for name, value in values.items() if value is not None}


def basic(user: str, password: str) -> str:
    """A `Basic` header."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
