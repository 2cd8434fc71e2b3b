"""Sealing: what a call said can be read with its own key, and with nothing else.

The installation's key is 32 random bytes in a file of its own. From it come, by HKDF, a key that wraps the calls' keys, one
for what belongs to no call (the centre's journal, the agents) and one that hashes callers' numbers. Each call has a random
data key, kept wrapped in `call_keys`; deleting that one value makes everything the call said unreadable for good.

A sealed value is one version byte, a random 12-byte nonce, and AES-256-GCM's text and tag. The place it is for (table, call,
seq) is its associated data, so that a row copied to another place does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.store.errors import StoreError, StoreRefused

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE = 12
_PROOF = b"callwright installation key"


class Unsealable(StoreError):
    """A sealed value does not open: it was altered, moved, or sealed under another key."""


class Seal:
    """One AES-256-GCM key, ready for use."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def close(self, place: str, plain: bytes) -> bytes:
        """`plain`, sealed for `place`."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, place.encode("utf-8", "surrogatepass"))

    def open(self, place: str, sealed: bytes) -> bytes:
        """What `close` was given for `place`; raises Unsealable."""
        if sealed[:1] != _VERSION:
            raise Unsealable(f"{place}: sealed in an unknown form")
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._aead.decrypt(nonce, text, place.encode("utf-8", "surrogatepass"))
        except (InvalidTag, ValueError) as e:
            raise Unsealable(f"{place}: does not open with its key") from e


class Keys:
    """What the installation's key makes possible."""

    def __init__(self, secret: bytes) -> None:
        self._wrap = Seal(_derive(secret, b"wrap"))
        self._number = _derive(secret, b"number")
        self.centre = Seal(_derive(secret, b"centre"))

    def mint(self, call: str) -> tuple[Seal, bytes]:
        """A new data key for `call`, and its wrapped form for `call_keys`."""
        key = os.urandom(KEY_BYTES)
        return Seal(key), self._wrap.close(f"key:{call}", key)

    def unwrap(self, call: str, wrapped: bytes) -> Seal:
        """The data key of `call`; raises Unsealable."""
        return Seal(self._wrap.open(f"key:{call}", wrapped))

    def hash_number(self, number: str) -> bytes:
        """16 bytes that are equal for equal numbers and tell nothing without the installation's key."""
        return hmac.digest(self._number, number.encode("utf-8", "surrogatepass"), hashlib.sha256)[:16]

    def proof(self) -> bytes:
        """A value that only this installation's key opens."""
        return self.centre.close("proof", _PROOF)

    def proves(self, proof: bytes) -> bool:
        """True when `proof` was made with this key."""
        try:
            return self.centre.open("proof", proof) == _PROOF
        except Unsealable:
            return False


def read_key(file: Path) -> bytes:
    """The installation's key, 32 bytes; raises StoreRefused when the file is absent, open to others or not a key."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise StoreRefused(f"the key file {file} cannot be read: {e.strerror}; without it the database cannot be opened") from e
    with open(descriptor, "rb") as f:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        secret = f.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise StoreRefused(f"the key file {file} is open to others (mode {mode:04o}); make it private: chmod 600 {file}")
    if len(secret) != KEY_BYTES:
        raise StoreRefused(f"the key file {file} is not a key: it must hold exactly {KEY_BYTES} bytes")
    return secret


def make_key(file: Path) -> None:
    """Write a new key, readable by this user alone and on the disk when this returns. Does nothing when the file exists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as f:
            f.write(os.urandom(KEY_BYTES))
            f.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"callwright store " + purpose).derive(secret)
