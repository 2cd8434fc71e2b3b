"""Settings: a TOML file, overridden by environment variables `CALLWRIGHT_*` (nested with two underscores).

Every default is for one machine, on loopback. Secrets come from the file, which should be readable by its owner alone, or the environment.
"""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from app.actions.credentials import Credentials
from app.actions.guard import Origin
from app.actions.webhooks import Secret, Webhook
from app.channels.bots import BotSettings
from app.channels.mail import MailSettings
from app.channels.sms import SmsSettings
from app.installation import DEMO
from app.store import FACTS_DAYS


class Part(BaseModel):
    """One part of the settings; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Ari(Part):
    """Asterisk's ARI: `url` without a path. `app` is the name that the dialplan's `Stasis()` uses.

    `tones` is a country of its `indications.conf`, which must have our country `callwright` too; then conversations are bridged natively.
    """

    url: str = "http://127.0.0.1:8088"
    user: str = "callwright"
    password: SecretStr = SecretStr("")
    app: str = "callwright"
    tones: str = Field(default="", pattern="^[a-z]{0,8}$")


class AmiSettings(Part):
    """Asterisk's AMI. With `on = false` every phone is taken to be reachable."""

    on: bool = True
    host: str = "127.0.0.1"
    port: int = 5038
    user: str = "callwright"
    secret: SecretStr = SecretStr("")


class Agi(Part):
    """Our FastAGI server, and the networks that may ask it."""

    on: bool = True
    host: str = "127.0.0.1"
    port: int = 4573
    allow: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"),)


class Api(Part):
    """The public API and the desk. `credentials` is a TOML file of tokens and PINs, both hashed."""

    host: str = "127.0.0.1"
    port: int = 8080
    credentials: Path | None = None
    session_key: SecretStr | None = None
    record_origins: tuple[str, ...] = ("http://127.0.0.1:8081",)


class Inbound(Part):
    """A system that may write into live calls by requests signed with this secret, at `/v1/inbound/<name>`."""

    secret: Secret


class Recordings(Part):
    """How many days recordings, and messages that no mail server took, are kept in `state`/recordings; no longer than facts of calls."""

    keep_days: float = Field(default=90.0, gt=0, le=FACTS_DAYS)


class Settings(BaseSettings):
    """Everything. `project` is the folder of flows, actions, queues and agents; `state` where we keep the database and prompts."""

    model_config = SettingsConfigDict(env_prefix="CALLWRIGHT_", env_nested_delimiter="__", extra="forbid", hide_input_in_errors=True)

    project: Path = DEMO
    state: Path = Path("/var/lib/callwright")
    database: str = ""
    sounds: Path | None = None
    ari: Ari = Ari()
    ami: AmiSettings = AmiSettings()
    agi: Agi = Agi()
    api: Api = Api()
    mail: MailSettings = MailSettings()
    sms: SmsSettings = SmsSettings()
    recordings: Recordings = Recordings()
    bots: dict[str, BotSettings] = {}
    systems: dict[str, Credentials] = {}
    webhooks: dict[str, Webhook] = {}
    inbound: dict[str, Inbound] = {}
    origins: tuple[Origin, ...] = (Origin(origin="http://127.0.0.1:8081", allow_private=True),)
    max_calls: int = Field(default=1000, ge=1, le=100_000)
    drain_seconds: float = Field(default=30.0, ge=0)

    @property
    def database_url(self) -> str:
        """The database; a SQLite file in `state` unless said otherwise."""
        return self.database or f"sqlite+aiosqlite:///{self.state / 'callwright.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then the file."""
        return (env_settings, init_settings)


def read_settings(file: Path | None) -> Settings:
    """The settings of a file (none: defaults and environment alone); raises `ValueError` with what is wrong and where."""
    if file is None:
        return Settings()
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file")
    try:
        return Settings(**TomlConfigSettingsSource(Settings, file)())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: not TOML: {error}") from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise ValueError("\n".join(f"{file}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)) from None
