"""What is asked of Asterisk: nothing but what has the shape it must have."""

from __future__ import annotations

import pytest

from app.core import commands as do
from app.pbx import requests
from app.pbx.book import Caller, Leg
from app.pbx.requests import BadCommand

CALL = f"{1:032x}"
CHANNEL = "1767225600.7"
LEG, BRIDGE, PLAYBACK = f"{CALL}-leg1", f"{CALL}-br1", f"{CALL}-pb1"


@pytest.mark.parametrize("endpoint", ["", "a&b", "101,PJSIP/102", "101@evil", "a/b", "a;b", "$" + "{X}", "x" * 41, "101\n"])
def test_no_other_dial_string_can_be_built(endpoint: str) -> None:
    with pytest.raises(BadCommand):
        requests.dial_string(endpoint)


def test_a_leg_is_created_so_that_its_ringing_does_not_stop_the_music() -> None:
    request = requests.create_leg("callwright", Caller(CALL, CHANNEL), do.RingAgent(CALL, LEG, BRIDGE, "101", 20.0))
    assert dict(request.query) == {
        "endpoint": "PJSIP/101",
        "app": "callwright",
        "appArgs": "leg",
        "channelId": LEG,
        "originator": CHANNEL,
    }
    assert request.body == {"variables": {"FRAME_DROP(RX)": "RINGING"}}


def test_a_caller_who_is_deaf_to_ringing_needs_nothing_dropped() -> None:
    command = do.RingAgent(CALL, LEG, BRIDGE, "101", 20.0)
    assert requests.create_leg("callwright", Caller(CALL, CHANNEL, hushed=True), command).body == {"variables": {}}


def test_tones_come_with_the_variables_and_the_bridge_is_looked_at_again_in_that_order() -> None:
    caller = Caller(CALL, CHANNEL)
    assert requests.variables(caller, {"CW_QUEUE": "general"}, "eu").body == {
        "variables": {"CW_QUEUE": "general", "CHANNEL(tonezone)": "eu"}
    }
    request = requests.variables(caller, {}, "eu", look_again=True)
    assert isinstance(request.body, dict)
    assert list(request.body["variables"]) == ["CHANNEL(tonezone)", "TALK_DETECT(set)", "TALK_DETECT(remove)"]


def test_a_caller_is_released_with_the_tones_that_others_expect() -> None:
    release = do.Release(CALL, "callwright-fallback")
    assert [request.path for request in requests.release(Caller(CALL, CHANNEL), release)] == [f"channels/{CHANNEL}/continue"]
    tones, _ = requests.release(Caller(CALL, CHANNEL), release, "us")
    assert tones.body == {"variables": {"CHANNEL(tonezone)": "us"}}


@pytest.mark.parametrize(("seconds", "expected"), [(20.0, "20"), (19.01, "20"), (0.0, "1"), (-3.0, "1")])
def test_ringing_is_in_whole_seconds_and_never_for_ever(seconds: float, expected: str) -> None:
    assert dict(requests.dial(Caller(CALL, CHANNEL), Leg(LEG, CALL, BRIDGE), seconds).query)["timeout"] == expected


@pytest.mark.parametrize("ident", ["x", f"{CALL}-leg1", f"{CALL.upper()}X-pb1", f"../{PLAYBACK}", f"{PLAYBACK}\n"])
def test_an_id_that_is_not_ours_never_becomes_a_path(ident: str) -> None:
    with pytest.raises(BadCommand):
        requests.stop_play(ident)


@pytest.mark.parametrize("media", ["text:x", "sound:", "sound:a,b", "sound:a b", "recording:x", "digits:1;2", "number:1.5", "tone:ring"])
def test_media_that_is_not_plain_is_refused(media: str) -> None:
    with pytest.raises(BadCommand):
        requests.play(Caller(CALL, CHANNEL), do.Play(CALL, PLAYBACK, (media,)), (media,))


def test_digits_and_characters_are_played_as_recordings_that_can_be_stopped() -> None:
    media = ("digits:1#", "characters:A7-", "number:12", "sound:bye")
    played = dict(requests.play(Caller(CALL, CHANNEL), do.Play(CALL, PLAYBACK, media, "de"), media).query)
    spoken = "sound:digits/1,sound:digits/pound,sound:letters/a,sound:digits/7,sound:letters/dash"
    assert played == {"media": f"{spoken},number:12,sound:bye", "lang": "de"}


def test_the_default_music_is_the_class_that_we_ship() -> None:
    assert requests.start_music(Caller(CALL, CHANNEL)).query == (("mohClass", "callwright"),)
    assert requests.start_music(Caller(CALL, CHANNEL), "jazz").query == (("mohClass", "jazz"),)
    with pytest.raises(BadCommand):
        requests.start_music(Caller(CALL, CHANNEL), "../etc")
