"""What an Asterisk lacks before Callwright can work with it: every finding names the thing, the reason and the repair.

Three views, each used as far as it can be reached: ARI (version, modules, permissions), AMI (permissions, the dialplan's contexts) and
the configuration files, where this machine has them and we may read them. Nothing is changed anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

from app.pbx.hardening import ActionRefused, AmiLink
from app.pbx.local_install import FLOOR, parse_version
from app.pbx.tones import NO_RINGING

_DEADLINE = 5.0
_MODULES: Mapping[str, str] = {
    "app_stasis": "calls enter the application by Stasis()",
    "res_stasis": "the application controls calls",
    "res_stasis_answer": "the application answers calls",
    "res_stasis_playback": "callers hear prompts",
    "res_ari": "the application speaks to Asterisk",
    "res_ari_applications": "calls are found again after a restart",
    "res_ari_asterisk": "the watchdog tells the dialplan that the application is away",
    "res_ari_bridges": "callers and agents are joined",
    "res_ari_channels": "calls are controlled",
    "res_ari_events": "events arrive",
    "res_ari_playbacks": "prompts are stopped when a caller presses a key",
    "res_http_websocket": "events arrive by websocket",
    "res_musiconhold": "callers who wait hear music",
    "bridge_simple": "two people are joined",
    "bridge_softmix": "more than two people are joined",
    "func_frame_drop": "music goes on while an agent's phone rings",
    "func_timeout": "no call lasts for ever",
    "func_strings": "the fallback keeps a caller's priority",
    "app_stack": "the door is entered with Gosub()",
    "app_playback": "the fallback plays prompts",
    "app_queue": "the fallback is a local queue",
    "chan_pjsip": "agents' phones are called",
    "res_pjsip_sdp_rtp": "calls have sound",
    "res_rtp_asterisk": "calls have sound",
    "format_wav": "prompts are .wav files",
}
_ONLY_FOR_AGI = {"res_agi": "a dialplan of your own asks us by AGI", "res_speech": "res_agi needs it"}
_ONLY_FOR_TONES = {
    "func_talkdetect": "two who talk are bridged again when the agent has answered",
    "func_channel": "callers do not hear an agent's phone ring in their music",
    "bridge_native_rtp": "the sound of two who talk is passed on as it comes",
}
_ONLY_FOR_BOTS = {"chan_websocket": "a step `bot` gives the caller's sound to a program; without it such a step always fails"}
_DANGEROUS: Mapping[str, str] = {
    "app_system": "runs programs from the dialplan",
    "func_shell": "runs programs from a dialplan string",
    "func_env": "reads and writes files from a dialplan string",
    "func_curl": "calls any address from a dialplan string",
    "res_pjsip_endpoint_identifier_anonymous": "lets calls in that nobody vouches for",
}
_ACTIONS: Mapping[str, str] = {
    "Redirect": "callers come back from the fallback (write class call)",
    "Status": "callers in the fallback are found (write class call)",
    "DeviceStateList": "the state of agents' phones is known (write class call or reporting; module res_manager_devicestate)",
    "QueueLog": "queue_log is written (write class agent; module app_queue)",
}
_TOO_MUCH = ("Originate", "Command", "UpdateConfig", "DialplanExtensionAdd")
_CONTEXTS = ("callwright-door", "callwright-fallback", "callwright-return")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is missing (`error`: calls will not work) or unwise (`warning`)."""

    level: Literal["error", "warning"]
    what: str
    why: str
    how_to_fix: str


@dataclass(frozen=True, slots=True)
class AsteriskAccess:
    """How to reach the Asterisk that is checked. Without `ami_user` AMI is not looked at; `config` is Asterisk's etc directory.

    `agi` and `tones` are those of our settings.
    """

    ari_url: str
    ari_user: str
    ari_password: str = field(repr=False)
    ami_host: str = "127.0.0.1"
    ami_port: int = 5038
    ami_user: str = ""
    ami_secret: str = field(default="", repr=False)
    config: Path | None = None
    agi: bool = True
    tones: str = ""


async def check_asterisk(access: AsteriskAccess) -> list[Finding]:
    """All findings, errors first; an empty list means that nothing is missing."""
    found = await _check_ari(access)
    if access.ami_user:
        found += await _check_ami(access)
    if access.config is not None:
        found += check_files(access.config, access.tones)
    return sorted(found, key=lambda finding: finding.level != "error")


# -- ARI --------------------------------------------------------------------------------------------------------------------------


async def _check_ari(access: AsteriskAccess) -> list[Finding]:
    token = base64.b64encode(f"{access.ari_user}:{access.ari_password}".encode()).decode()
    timeout = aiohttp.ClientTimeout(total=_DEADLINE)
    base = f"{access.ari_url.rstrip('/')}/ari"
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {token}"}, timeout=timeout) as session:
        try:
            async with session.get(f"{base}/asterisk/info") as answer:
                if answer.status != 200:
                    return [_ari_refuses(access, answer.status)]
                version = str((await answer.json())["system"]["version"])
            async with session.get(f"{base}/asterisk/modules") as answer:
                modules = {str(module["name"]): str(module["status"]) for module in await answer.json()}
            async with session.delete(f"{base}/channels/callwright-check-no-such-channel") as answer:
                may_write = answer.status != 403
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            return [_ari_unreachable(access, error)]
    return [*_judge_version(version), *_judge_write(access, may_write), *judge_modules(modules, access.agi, bool(access.tones))]


def _ari_refuses(access: AsteriskAccess, status: int) -> Finding:
    if status in (401, 403):
        fix = f"ari.conf: a section [{access.ari_user}](callwright-ari-user) with our settings' password; then `module reload res_ari`"
        return Finding("error", f"ARI refuses the user {access.ari_user} ({status})", "the application cannot log in", fix)
    fix = "http.conf: enabled=yes; ari.conf: enabled=yes; modules.conf: load res_ari and the res_ari_* modules of callwright-modules.conf"
    return Finding("error", f"{access.ari_url} answers {status} instead of ARI", "the application cannot speak to Asterisk", fix)


def _ari_unreachable(access: AsteriskAccess, error: Exception) -> Finding:
    why = f"the application cannot speak to Asterisk: {error or type(error).__name__}"
    return Finding("error", f"no ARI at {access.ari_url}", why, "start Asterisk; http.conf: `#include callwright-http.conf` and bindport")


def _judge_version(version: str) -> Iterator[Finding]:
    if (parse_version(version) or ()) < FLOOR:
        floor = ".".join(map(str, FLOOR))
        why = "older versions let an ARI user reach dangerous functions through variables and write with a read-only user"
        yield Finding("error", f"Asterisk {version}", why, f"install {floor} or newer")


def _judge_write(access: AsteriskAccess, may_write: bool) -> Iterator[Finding]:
    if not may_write:
        yield Finding("error", f"ARI user {access.ari_user} is read-only", "calls cannot be controlled", "ari.conf: read_only = no")


def judge_modules(status: Mapping[str, str], agi: bool = True, tones: bool = False) -> list[Finding]:
    """Findings about the modules, given as name without `.so` or with it, and ARI's word for their state."""
    running = {name.removesuffix(".so") for name, state in status.items() if state == "Running"}
    needed = {**_MODULES, **(_ONLY_FOR_AGI if agi else {}), **(_ONLY_FOR_TONES if tones else {})}
    found = [
        Finding("error", f"module {name} is not running", why, f"modules.conf: load = {name}.so; then `module load {name}`")
        for name, why in needed.items()
        if name not in running
    ]
    found += [
        Finding("warning", f"module {name} is not running", why, f"modules.conf: load = {name}.so, if a flow has such a step")
        for name, why in _ONLY_FOR_BOTS.items()
        if name not in running
    ]
    return found + [
        Finding("warning", f"module {name} is loaded", f"it {why}", f"modules.conf: noload = {name}.so, unless you need it")
        for name, why in _DANGEROUS.items()
        if name in running
    ]


# -- AMI --------------------------------------------------------------------------------------------------------------------------


async def _check_ami(access: AsteriskAccess) -> list[Finding]:
    where = f"{access.ami_host}:{access.ami_port}"
    lost = asyncio.Event()
    try:
        async with asyncio.timeout(_DEADLINE):
            loop = asyncio.get_running_loop()
            _, link = await loop.create_connection(lambda: AmiLink(lambda _: None, lost.set), access.ami_host, access.ami_port)
    except (OSError, TimeoutError) as error:
        fix = "manager.conf: `#include callwright-manager.conf`; then `manager reload`"
        return [Finding("error", f"no AMI at {where}", f"phones' states stay unknown: {error or 'no answer'}", fix)]
    try:
        await link.ask("Login", _DEADLINE, Username=access.ami_user, Secret=access.ami_secret, Events="off")
        (commands,) = await link.ask("ListCommands", _DEADLINE)
        missing = [context for context in _CONTEXTS if not await _has_context(link, context)]
    except ActionRefused as error:
        fix = f"manager.conf: a section [{access.ami_user}](callwright-ami-user) with the secret that our settings have"
        return [Finding("error", f"AMI refuses the user {access.ami_user}", str(error), fix)]
    except (OSError, TimeoutError) as error:
        return [Finding("error", f"AMI at {where} does not answer", str(error) or type(error).__name__, "look into Asterisk's log")]
    finally:
        link.end("checked")
    return [*judge_actions(set(dict(commands.items()))), *_judge_contexts(missing)]


async def _has_context(link: AmiLink, context: str) -> bool:
    try:
        await link.ask("ShowDialPlan", _DEADLINE, many=True, Context=context)
    except ActionRefused as error:
        return "ermission" in str(error)  # then it cannot be told; the user's rights are judged on their own
    return True


def judge_actions(allowed: set[str]) -> list[Finding]:
    """Findings about what the AMI user may do, given the names of all actions that it is offered."""
    lower = {name.lower() for name in allowed}
    found = [
        Finding("error", f"the AMI user may not {name}", why, "manager.conf: use the template callwright-ami-user")
        for name, why in _ACTIONS.items()
        if name.lower() not in lower
    ]
    too_much = [name for name in _TOO_MUCH if name.lower() in lower]
    if too_much:
        why = f"it could {', '.join(too_much)}, which the call centre never needs"
        found.append(Finding("warning", "the AMI user may do too much", why, "manager.conf: write = call,agent,reporting"))
    return found


def _judge_contexts(missing: list[str]) -> Iterator[Finding]:
    for context in missing:
        why = "calls come in, fall back and return through our contexts"
        yield Finding("error", f"the dialplan has no context {context}", why, "extensions.conf: `#include callwright-extensions.conf`")


# -- files ------------------------------------------------------------------------------------------------------------------------


def check_files(config: Path, tones: str = "") -> list[Finding]:
    """Findings about the configuration files in `config`; files that we may not read are passed over."""
    found: list[Finding] = []
    ari = read_config(config / "ari.conf")
    if ari and not any(_number(values.get("websocket_write_timeout")) >= 1000 for values in ari.values()):
        why = "Asterisk closes our event stream when one write takes longer than 100 ms"
        found.append(
            Finding("warning", "ari.conf: websocket_write_timeout is short", why, "ari.conf [general]: websocket_write_timeout = 1000")
        )
    for name, values in ari.items():
        password = values.get("password", "")
        weak = values.get("password_format", "plain") == "plain" and (len(password) < 16 or password == name)
        if values.get("type") == "user" and password and weak:
            found.append(Finding("error", f"ari.conf: the password of {name} is weak", "ARI controls every call", "32 random bytes"))
    for file in ("http.conf", "manager.conf"):
        general = read_config(config / file).get("general", {})
        if general.get("enabled", "no") in ("yes", "true", "1") and general.get("bindaddr", "") in ("0.0.0.0", "::", "[::]"):
            fix = f"{file} [general]: bindaddr = 127.0.0.1"
            found.append(Finding("warning", f"{file}: open to every network", "whoever reaches it can try passwords", fix))
    options = read_config(config / "asterisk.conf").get("options", {})
    if options.get("live_dangerously", "no") in ("yes", "true", "1"):
        why = "a variable read over ARI can then run programs"
        found.append(Finding("warning", "asterisk.conf: live_dangerously = yes", why, "asterisk.conf [options]: live_dangerously = no"))
    music = read_config(config / "musiconhold.conf")
    if music and "callwright" not in music:
        why = "callers who wait would hear nothing"
        found.append(
            Finding(
                "error",
                "musiconhold.conf has no class callwright",
                why,
                "`[callwright]`, directory = ..., `#include callwright-musiconhold.conf`",
            )
        )
    return found + list(_judge_tones(read_config(config / "indications.conf"), tones))


def _judge_tones(countries: Mapping[str, object], tones: str) -> Iterator[Finding]:
    reasons = {NO_RINGING: "the music would stop while an agent's phone rings", tones: "callers would keep tones without ringing"}
    for country, why in reasons.items():
        if tones and countries and country not in countries:
            fix = f"take [{country}] from callwright-indications.conf, or leave `tones` under [ari] in our settings empty"
            yield Finding("error", f"indications.conf has no country {country}", why, fix)


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdigit() else 0


def read_config(path: Path, _depth: int = 0) -> dict[str, dict[str, str]]:
    """Sections of an Asterisk file with templates and includes followed; of a key that comes twice the last value counts.

    A file that is missing or may not be read gives no sections.
    """
    sections: dict[str, dict[str, str]] = {}
    _read_into(path, path.parent, sections, "", _depth)
    return sections


def _read_into(path: Path, folder: Path, sections: dict[str, dict[str, str]], section: str, depth: int) -> str:
    """Read one file into `sections`; returns the section that is open at its end."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return section
    for line in (raw.split(";", 1)[0].strip() for raw in lines):
        if included := re.match(r'#(?:try)?include\s+[<"]?([^>"]+)[>"]?', line):
            for file in sorted(folder.glob(included[1])) if not included[1].startswith("/") else [Path(included[1])]:
                section = _read_into(file, folder, sections, section, depth + 1) if depth < 8 else section
        elif header := re.match(r"\[([^]]+)\](?:\(([^)]*)\))?", line):
            section = header[1]
            values = sections.setdefault(section, {})
            for template in (header[2] or "").split(","):
                values.update(sections.get(template.strip(), {}))
        elif section and "=" in line:
            key, _, value = line.partition("=")
            sections[section][key.strip().lower()] = value.lstrip(">").strip()
    return section
