"""What tests of flows stand on: answers from samples, time, silence, people, crashes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.frozen import frozen
from app.testing import centre as module
from app.testing import speed
from app.testing.centre import VirtualCentre
from app.testing.project import NoProject, Project, find_project
from app.testing.sound import seconds_of

DEMO = Path(__file__).parents[2] / "app" / "demo"
KNOWN, STRANGER = "+493012345678", "+4930000000"
PHONE, REFERENCE, LINK = "crm.contact_by_phone", "crm.contact_by_reference", "crm.order_link"


@pytest.fixture(scope="module")
def demo() -> Project:
    return Project.load(DEMO)


@pytest.fixture
def hotline(demo: Project) -> VirtualCentre:
    return VirtualCentre(demo)


def asked(centre: VirtualCentre, action: str, mode: str | float = "", **params: str) -> ev.CallEvent:
    return centre.action(action).answer(do.StartAction("c", "r", action, params), mode)[1]


# ---- other systems -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phone", "expected"),
    [(KNOWN, {"count": 1, "first_name": "Ada"}), ("+4930111", {"count": 2, "found": False}), ("+4999", {"count": 0, "found": False})],
)
def test_an_action_answers_with_the_sample_that_fits_or_else_that_nobody_was_found(
    hotline: VirtualCentre, phone: str, expected: dict[str, Any]
) -> None:
    answer = asked(hotline, PHONE, phone=phone)
    assert isinstance(answer, ev.ActionSucceeded)
    assert {name: answer.values[name] for name in expected} == expected


@pytest.mark.parametrize(("phone", "reason"), [("+4930222", "malformed"), ("+4930333", "status"), ("", "bad_request")])
def test_samples_that_fail_fail_and_what_makes_no_request_is_refused(hotline: VirtualCentre, phone: str, reason: str) -> None:
    answer = asked(hotline, PHONE, phone=phone)
    assert isinstance(answer, ev.ActionFailed)
    assert answer.reason == reason


def test_an_action_that_counts_nothing_answers_with_its_first_sample_that_succeeds(hotline: VirtualCentre) -> None:
    answer = asked(hotline, LINK, order="o-9")
    assert isinstance(answer, ev.ActionSucceeded)
    assert answer.values["token"] == "sample"


def test_a_body_is_reduced_by_the_actions_own_paths(hotline: VirtualCentre) -> None:
    hotline.action(PHONE).answers(body='{"count": 1, "results": [{"first_name": "Zoe", "last_order": {"id": "o-7"}}]}')
    answer = asked(hotline, PHONE, phone=STRANGER)
    assert isinstance(answer, ev.ActionSucceeded)
    assert (answer.values["first_name"], answer.values["order_id"], answer.values["found"]) == ("Zoe", "o-7", True)
    hotline.action(PHONE).answers(body='{"count": "one"}')
    assert isinstance(asked(hotline, PHONE, phone=STRANGER), ev.ActionFailed)


def test_a_function_may_be_the_other_system(hotline: VirtualCentre) -> None:
    hotline.action(PHONE).answers_from(lambda params: {"first_name": "Bo"} if params["phone"] == KNOWN else None)
    found, nobody = asked(hotline, PHONE, phone=KNOWN), asked(hotline, PHONE, phone=STRANGER)
    assert isinstance(found, ev.ActionSucceeded)
    assert isinstance(nobody, ev.ActionSucceeded)
    assert (found.values["first_name"], nobody.values["count"]) == ("Bo", 0)


@pytest.mark.parametrize(("mode", "reason"), [("slow", "timeout"), ("failing", "status"), ("nonsense", "malformed"), (2.5, "timeout")])
def test_one_argument_makes_every_action_of_a_call_slow_failing_or_nonsense(hotline: VirtualCentre, mode: str | float, reason: str) -> None:
    seconds, answer = hotline.action(PHONE).answer(do.StartAction("c", "r", PHONE, {"phone": KNOWN}, 2.5), mode)
    assert isinstance(answer, ev.ActionFailed)
    assert (answer.reason, seconds <= 2.5) == (reason, True)


def test_what_a_test_says_wrong_is_told_with_what_there_is(hotline: VirtualCentre) -> None:
    with pytest.raises(LookupError, match=r"no action 'crm\.none'; there are: crm\.contact_by_phone"):
        hotline.action("crm.none")
    with pytest.raises(ValueError, match="no attribute 'premum'; there are: found, count"):
        hotline.action(PHONE).answers(premum=True)
    with pytest.raises(ValueError, match="premium: boolean expected, found"):
        hotline.action(PHONE).answers(premium="yes")
    with pytest.raises(ValueError, match="no sample 'found'; there are: premium_with_an_order"):
        hotline.action(PHONE).answers(sample="found")
    with pytest.raises(LookupError, match=r"no agent 'Zed'; there are: 101 \(Alice\)"):
        hotline.agent("Zed")
    with pytest.raises(ValueError, match="expected slow, failing, nonsense or a number of seconds, found 'broken'"):
        hotline.dial(KNOWN, crm="broken")
    with pytest.raises(LookupError, match=r"number or name '2000'; there are: 1000 \(order-status\)"):
        hotline.dial(KNOWN, to="2000")


# ---- what the caller hears -----------------------------------------------------------------------------------------------


def test_a_prompt_takes_the_time_of_its_words() -> None:
    assert seconds_of(("text:one two three four five",)) == pytest.approx(2.0)
    assert seconds_of(("text:Rindfleischetikettierungsueberwachung",)) > 2.0
    assert seconds_of(("digits:12", "sound:hello")) == pytest.approx(3.0)


def test_a_prompt_that_was_not_heard_is_told_with_what_was(hotline: VirtualCentre) -> None:
    call = hotline.dial(STRANGER)
    with pytest.raises(AssertionError) as told:
        call.hears("hello", within=5)
    assert "expected to hear 'hello' (a prompt of the flow) within 5 s; heard instead:" in str(told.value)
    assert "ask_reference: Please enter your seven character customer reference." in str(told.value)
    assert "the call is at step ask_reference" in str(told.value)


def test_hearing_it_twice_means_that_it_was_played_twice(hotline: VirtualCentre) -> None:
    call = hotline.dial(STRANGER).hears("ask_reference")
    with pytest.raises(AssertionError):
        call.hears("ask_reference")


def test_silence_is_found_wherever_it_is(hotline: VirtualCentre) -> None:
    hotline.agent("Emil").ready()
    hotline.on(do.StartMusic, lambda command: None)
    call = hotline.dial("+4930555").waits(10)
    assert [problem.partition(">: ")[2] for problem in hotline.problems()] == ["silence of 9.9 s at step billing, 0.1 s into the call"]
    call.hangs_up()
    assert len(hotline.problems()) == 1, "a caller who has gone heard it all the same"


def test_silence_in_which_it_is_the_callers_turn_is_none(hotline: VirtualCentre) -> None:
    call = hotline.dial(STRANGER).hears("ask_reference").waits(14)
    assert call.step == "ask_reference"
    assert not call.ear.playing
    hotline.check()
    assert [silence for silence in call.silences if silence.seconds > 0.6] == []


def test_a_call_that_nobody_will_end_is_found(hotline: VirtualCentre) -> None:
    call = hotline.dial(STRANGER).hears("ask_reference")
    hotline.check()
    hotline.center.timers.cancel_all(call.id)
    with pytest.raises(AssertionError, match="nothing has a deadline and no person is asked"):
        hotline.check()


@frozen
class Juggle(do.Command):
    """A command that no simulator knows."""


def test_a_command_that_nobody_carries_out_is_found_and_a_test_may_say_what_comes_of_it(
    demo: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for says in (False, True):
        hotline = VirtualCentre(demo)
        handle = hotline.center.handle
        more = {id(hotline): True}

        def juggling(event: ev.Event, now: float, handle: Any = handle, more: dict[int, bool] = more) -> list[Any]:
            return [*handle(event, now), *([Juggle(event.call)] if isinstance(event, ev.CallArrived) and more else [])]

        monkeypatch.setattr(hotline.center, "handle", juggling)
        if says:
            hotline.on(Juggle, lambda command: (1.0, ev.CallerLeft(command.call)))
        call = hotline.dial(STRANGER).waits(2)
        assert bool(call.outcome) is says
        assert hotline.problems() == (
            [] if says else ["nobody carries out Juggle in a test; say what comes of it with centre.on(Juggle, ...)"]
        )


# ---- crashes -------------------------------------------------------------------------------------------------------------


class Mortal(VirtualCentre):
    """A centre whose process dies after a number of events."""

    dies_after = 0

    def happen(self, event: ev.Event) -> list[Any]:
        out = super().happen(event)
        if self.events == self.dies_after:
            self.crash()
        return out


def whole_call(centre: VirtualCentre) -> tuple[list[tuple[str, str]], str, str]:
    centre.action(REFERENCE).answers(skills={"lang.en": 5})
    if centre.agent("Alice").state != "ready":
        centre.agent("Alice").ready().always_answers(after=3, talks=20, wraps_up=5)
    call = centre.dial(STRANGER).hears("ask_reference").presses("7332215#").ends(within=120)
    centre.waits(10)
    centre.check()
    assert centre.agent("Alice").state == "ready"
    assert centre.center.calls == {}
    return call.path, call.outcome, call.agent


def moments() -> Iterator[int]:
    centre = VirtualCentre(Project.load(DEMO))
    whole_call(centre)
    yield from range(1, centre.events)


@pytest.mark.parametrize("after", list(moments()))
def test_a_process_that_dies_at_any_moment_changes_nothing_for_the_caller(demo: Project, after: int) -> None:
    lasting, mortal = VirtualCentre(demo), Mortal(demo)
    mortal.dies_after = after
    assert whole_call(mortal) == whole_call(lasting)
    assert mortal.events > lasting.events, "it died"


def test_a_condition_may_fail_and_a_process_die_afterwards(hotline: VirtualCentre) -> None:
    first = hotline.dial(KNOWN).reaches("greet")
    hotline.condition_fails("premium")
    assert hotline.crash() == []
    assert first.reaches("to_general").path[-2] == ("premium_check", "failed")


def test_a_condition_that_fails_in_one_test_holds_in_the_next(demo: Project) -> None:
    VirtualCentre(demo).condition_fails("caller_unknown")
    hotline = VirtualCentre(demo)
    call = hotline.dial(KNOWN)
    assert hotline.crash() == []
    assert call.reaches("greet").path[0] == ("recognise", "found")


def test_a_mail_is_there_once_though_its_confirmation_was_lost(hotline: VirtualCentre) -> None:
    hotline.action(PHONE).answers(premium=False)
    call = hotline.dial(KNOWN).reaches("mail")
    assert hotline.crash() == []
    assert call.ends().outcome == "self_service"
    assert len([command for command in hotline.commands if isinstance(command, do.SendMail)]) == 2
    assert len(call.mails) == 1


# ---- the rest ------------------------------------------------------------------------------------------------------------


def test_time_goes_where_it_is_told_and_never_back(hotline: VirtualCentre) -> None:
    hotline.clock.goes_to("2026-03-02T08:30")
    assert f"{hotline.clock.time:%A %H:%M}" == "Monday 08:30"
    with pytest.raises(ValueError, match="time does not go back"):
        hotline.clock.goes_to("2026-03-01")


def test_another_system_writes_into_the_session(hotline: VirtualCentre) -> None:
    call = hotline.dial(STRANGER).hears("ask_reference").session_gets({"ivr.email": "a@example.com"})
    assert call.session["ivr.email"] == "a@example.com"


def test_a_project_is_found_from_any_folder_in_it(tmp_path: Path) -> None:
    (tmp_path / "tests" / "deep").mkdir(parents=True)
    (tmp_path / "centre.yaml").touch()
    assert find_project(tmp_path / "tests" / "deep") == tmp_path
    (tmp_path / "centre.yaml").unlink()
    with pytest.raises(NoProject, match=r"no centre\.yaml in .* or in any folder above it"):
        find_project(tmp_path / "tests")


def test_the_speed_is_measured_with_whole_calls() -> None:
    figures = speed.run(100)
    assert figures["calls"] == 100
    assert figures["events a call"] >= 19
    assert figures["in the fastest round"] > 300, "hundreds even where others use the processor; thousands on a free one"


def test_rows_are_made_now_and_then_and_a_later_death_goes_on_from_them(demo: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY_EVENTS", 10)
    hotline = VirtualCentre(demo)
    for _ in range(5):
        whole_call(hotline)
    assert hotline._in_rows > 0
    second = hotline.dial("+4930555").hears("nobody_free")
    assert hotline.crash() == []
    assert second.ends().outcome == "released"


@pytest.mark.parametrize("seed", range(5))
def test_many_callers_who_do_anything_at_once_and_processes_that_die_leave_nobody_behind(demo: Project, seed: int) -> None:
    chance = random.Random(seed)
    hotline = VirtualCentre(demo)
    for agent in ("Alice", "Chen", "Emil", "Fatima"):
        hotline.agent(agent).ready().always_answers(after=chance.uniform(0.2, 14), talks=chance.uniform(0.0, 90), wraps_up=5)
    hotline.action(REFERENCE).answers(sample="premium_with_an_order", skills={"lang.en": 5})
    calls = []
    for _ in range(60):
        number = chance.choice([KNOWN, STRANGER, "+4930555", "+4930111", "anonymous"])
        calls.append(hotline.dial(number, crm=chance.choice(["", "", "", 1.0, "slow", "failing", "nonsense"])))
        for _ in range(6):
            call = chance.choice(calls)
            for key in chance.choice(["7332215#", "1", "2", "12#", ""]):
                if not call.outcome:
                    call.presses(key).waits(0.2)
            if not call.outcome and chance.random() < 0.05:
                call.hangs_up()
            hotline.waits(chance.uniform(0, 3))
        if chance.random() < 0.2:
            assert hotline.crash() == []
    hotline.waits(minutes=30)
    hotline.check()
    assert [call for call in calls if not call.outcome] == []
    assert hotline.center.calls == {}
    assert len([fact for fact in hotline.said if isinstance(fact, facts.CallEnded)]) == len(calls)
