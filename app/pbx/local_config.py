"""The files of a local PBX that hold its own values: ports, passwords, phones. Each includes its shipped `callwright-*.conf`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

UNHEARD = (
    "AgentCalled,AgentComplete,AgentConnect,AgentDump,AgentRingNoAnswer,BridgeCreate,BridgeDestroy,BridgeEnter,BridgeLeave,BridgeMerge,"
    "ChallengeSent,ContactStatus,DTMFBegin,DTMFEnd,DialBegin,DialEnd,DialState,Hangup,HangupRequest,Hold,MusicOnHoldStart,MusicOnHoldStop,"
    "NewAccountCode,NewCallerid,NewConnectedLine,Newchannel,Newexten,Newstate,PeerStatus,QueueCallerAbandon,QueueCallerJoin,"
    "QueueCallerLeave,QueueMemberStatus,RTCPReceived,RTCPSent,Rename,SoftHangupRequest,SuccessfulAuth,Unhold,UserEvent,VarSet"
)
"""AMI events that nobody hears in an Asterisk of which we are the only AMI user, by their names there."""
TONES = "eu"
"""The country of the tones that an Asterisk of ours makes."""
_DEFAULTS_WILL_DO = (
    "acl.conf",
    "ccss.conf",
    "cel.conf",
    "features.conf",
    "pjproject.conf",
    "queuerules.conf",
    "udptl.conf",
    "websocket_client.conf",
)


@dataclass(frozen=True, slots=True)
class PbxPorts:
    """Ports on 127.0.0.1: `sip` and the range `rtp_start`..`rtp_end` are UDP, `ari` and `ami` TCP. `agi` is where FastAGI is called."""

    sip: int
    ari: int
    ami: int
    rtp_start: int
    rtp_end: int
    agi: int = 4573


@dataclass(frozen=True, slots=True)
class AgentPhone:
    """A phone that may register: `extension` is its SIP user and its endpoint's name, `name` is shown. No secret given: one is made."""

    name: str
    extension: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PbxSecrets:
    """Passwords of one instance; `agents` by extension."""

    ari: str = field(repr=False)
    ami: str = field(repr=False)
    agents: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """What the files of one instance are made of; see `LocalPbx`."""

    directory: Path
    ports: PbxPorts
    secrets: PbxSecrets
    agents: tuple[AgentPhone, ...]
    app: str
    ari_user: str
    ami_user: str
    queues: tuple[str, ...]

    def files(self) -> dict[str, str]:
        """The text of each file in `etc`, by its name."""
        ports, place = self.ports, self.directory
        folders = {
            "astetcdir": "etc",
            "astvarlibdir": "lib",
            "astdbdir": "lib",
            "astcachedir": "cache",
            "astkeydir": "keys",
            "astspooldir": "spool",
            "astrundir": "run",
            "astlogdir": "log",
        }
        options = f'#include "{place}/etc/callwright-asterisk.conf"'  # read before astetcdir is known: the whole path
        return {
            "asterisk.conf": _lines("[directories]", *(f"{key} = {place / name}" for key, name in folders.items()), options),
            "modules.conf": _lines(_include("modules")),
            "http.conf": _lines("[general]", f"bindport = {ports.ari}", _include("http")),
            "ari.conf": _lines(
                _include("ari"),
                f"[{self.ari_user}](callwright-ari-user)",
                "password_format = plain",  # random, in a file that only Asterisk reads; a hash would be computed at every request
                f"password = {self.secrets.ari}",
            ),
            "manager.conf": _lines(
                "[general]",
                f"port = {ports.ami}",
                _include("manager"),
                f"disabledevents = {UNHEARD}",  # this Asterisk is nobody else's, and making them costs 1.5 ms a call
                f"[{self.ami_user}](callwright-ami-user)",
                f"secret = {self.secrets.ami}",
            ),
            "pjsip.conf": self._pjsip(),
            "rtp.conf": _lines("[general]", f"rtpstart = {ports.rtp_start}", f"rtpend = {ports.rtp_end}", _include("rtp")),
            "logger.conf": _lines(_include("logger")),
            "cdr.conf": _lines(_include("cdr")),
            "indications.conf": _lines(_include("indications")),
            **dict.fromkeys(_DEFAULTS_WILL_DO, "; the defaults will do\n"),
            "musiconhold.conf": _lines("[callwright]", f"directory = {place / 'moh'}", _include("musiconhold")),
            "queues.conf": self._queues(),
            "extensions.conf": self._extensions(),
        }

    def _pjsip(self) -> str:
        lines = [
            "[global]",
            "type = global",
            "user_agent = PBX",
            "endpoint_identifier_order = auth_username,username,ip",
            "[transport-udp]",
            "type = transport",
            "protocol = udp",
            f"bind = 127.0.0.1:{self.ports.sip}",
            _include("pjsip"),
            "[trunk](callwright-trunk)",
            "[trunk-addresses]",
            "type = identify",
            "endpoint = trunk",
            "match = 127.0.0.1/32",
        ]
        for agent in self.agents:
            number, shown = agent.extension, "".join(c for c in agent.name if c.isalnum() or c in " -.'")
            lines += [
                f"[{number}](callwright-agent)",
                f"auth = {number}",
                f"aors = {number}",
                f'callerid = "{shown}" <{number}>',
                f"[{number}](callwright-agent-auth)",
                f"username = {number}",
                f"password = {self.secrets.agents[number]}",
                f"[{number}](callwright-agent-aor)",
            ]
        return _lines(*lines)

    def _queues(self) -> str:
        members = [f"member => PJSIP/{agent.extension},0,{agent.extension},PJSIP/{agent.extension}" for agent in self.agents]
        lines = [_include("queues")]
        for queue in ("fallback", *self.queues):
            lines += [f"[callwright-{queue}](callwright-queue)", *members]
        return _lines(*lines)

    def _extensions(self) -> str:
        return _lines(
            "[globals]",
            f"CALLWRIGHT_APP = {self.app}",
            f"CALLWRIGHT_AGI = 127.0.0.1:{self.ports.agi}",
            _include("extensions"),
            "[from-trunk]",
            "exten => _1XXX,1,Gosub(callwright-door,s,1(${EXTEN}))",
            "exten => _20XX,1,Gosub(callwright-agi,s,1(${EXTEN},1${EXTEN:1}))",
            "[from-internal]",
            "include => from-trunk",
        )


def _include(name: str) -> str:
    return f"#include callwright-{name}.conf"


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
