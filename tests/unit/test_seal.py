"""Sealing: what opens, what does not, and what the key file must be like."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store.codec import dumps, loads
from app.store.errors import StoreRefused
from app.store.seal import KEY_BYTES, Keys, Seal, Unsealable, make_key, read_key


@given(st.binary(max_size=2000), st.text(max_size=80))
def test_what_was_sealed_opens_at_its_place(plain: bytes, place: str) -> None:
    seal = Seal(b"k" * KEY_BYTES)
    assert seal.open(place, seal.close(place, plain)) == plain


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_one_flipped_bit_anywhere_does_not_open(at: int, bit: int) -> None:
    seal = Seal(b"k" * KEY_BYTES)
    sealed = bytearray(seal.close("journal:a:1", b"said in the call"))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(Unsealable):
        seal.open("journal:a:1", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + b"n" * 12, b"\x02" + b"n" * 40])
def test_a_truncated_or_unknown_form_does_not_open(sealed: bytes) -> None:
    with pytest.raises(Unsealable):
        Seal(b"k" * KEY_BYTES).open("live:a", sealed)


def test_a_row_moved_to_another_call_or_number_does_not_open() -> None:
    seal = Seal(b"k" * KEY_BYTES)
    sealed = seal.close("journal:a:1", b"x")
    for place in ("journal:a:2", "journal:b:1", "live:a"):
        with pytest.raises(Unsealable):
            seal.open(place, sealed)


def test_equal_texts_are_sealed_differently_each_time() -> None:
    seal = Seal(b"k" * KEY_BYTES)
    assert len({seal.close("a", b"same") for _ in range(100)}) == 100


def test_one_calls_key_does_not_open_another_call_and_wrapped_keys_cannot_be_swapped() -> None:
    keys = Keys(b"s" * KEY_BYTES)
    (a, wrapped_a), (b, _) = keys.mint("a"), keys.mint("b")
    sealed = a.close("live:a", b"said by a")
    assert keys.unwrap("a", wrapped_a).open("live:a", sealed) == b"said by a"
    with pytest.raises(Unsealable):
        b.open("live:a", sealed)
    with pytest.raises(Unsealable):
        keys.unwrap("b", wrapped_a)


def test_another_installation_opens_nothing_and_hashes_numbers_differently() -> None:
    ours, theirs = Keys(b"s" * KEY_BYTES), Keys(b"t" * KEY_BYTES)
    _, wrapped = ours.mint("a")
    with pytest.raises(Unsealable):
        theirs.unwrap("a", wrapped)
    assert ours.proves(ours.proof())
    assert not theirs.proves(ours.proof())
    assert ours.hash_number("+4930123456") == Keys(b"s" * KEY_BYTES).hash_number("+4930123456")
    assert ours.hash_number("+4930123456") not in (theirs.hash_number("+4930123456"), ours.hash_number("+4930123457"))


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "state" / "key"
    old = os.umask(0)
    try:
        make_key(file)
    finally:
        os.umask(old)
    first = read_key(file)
    make_key(file)
    assert read_key(file) == first
    assert len(first) == KEY_BYTES
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    make_key(file)
    file.chmod(mode)
    with pytest.raises(StoreRefused, match="chmod 600"):
        read_key(file)


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_bytes(b"k" * size)
    with pytest.raises(StoreRefused, match="exactly 32 bytes"):
        read_key(file)


def test_a_missing_key_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="key cannot be read: No such file"):
        read_key(tmp_path / "key")


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "ü"]}, ["\x00"], {"n": 2**70 + 1}, [], ""])
def test_json_values_come_back(value: object) -> None:
    assert repr(loads(dumps(value))) == repr(value)


def test_a_lone_surrogate_does_not_stop_a_commit() -> None:
    assert loads(dumps({"name": "a\ud800b"})) == {"name": "a?b"}


def test_what_is_not_json_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        dumps({"x": object()})
