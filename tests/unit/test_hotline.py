"""The order status hotline on virtual time: every ordinary ending, the caller leaving at any moment, and a crash at any moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from tests.unit.centre import ANNA, BEN, CARLA, Sim


def premium_caller_talks(sim: Sim) -> str:
    sim.agent_is_ready("101")
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.answers(call)
    return call


def test_known_premium_caller_is_greeted_by_name_and_talks_to_the_able_agent() -> None:
    sim = Sim()
    call = premium_caller_talks(sim)
    assert "Hello Anna Schmidt" in sim.heard(call)
    assert sim.last(facts.Queued, call).skills == {"lang.en": 5, "product.printers": 3}
    assert sim.last(facts.Connected, call).agent == "101"
    sim.wait(60)
    sim.happen(ev.LegEnded(call, sim.last(do.RingAgent, call).leg))
    assert sim.last(facts.TalkEnded, call).by == "agent"
    assert sim.all(do.HangUp, call)
    sim.hangs_up(call)
    assert sim.ending(call) == "answered"
    sim.happen(ev.AgentFinishedWrapUp("101", call, "solved", "nice"))
    assert sim.center.acd.state("101")["presence"] == "ready"
    assert sim.live == {}


def test_the_lookup_leaves_while_the_call_still_rings() -> None:
    sim = Sim()
    call = sim.dial()
    assert [type(thing) for thing in sim.out if isinstance(thing, do.Command)] == [do.StartAction]
    assert sim.last(do.StartAction, call).params == {"phone": "+4930555000101"}


def test_a_slow_lookup_is_masked_by_the_welcome_which_ends_at_a_phrase() -> None:
    sim = Sim()
    call = sim.dial()
    sim.wait(0.7)
    assert sim.heard(call) == "Welcome to the order status hotline."
    sim.answer_action(call, ANNA)
    assert len(sim.all(do.Play, call)) == 1
    sim.prompt_ends(call)
    assert "Hello Anna" in sim.heard(call)


def test_a_lookup_past_its_budget_takes_the_failure_exit_with_sound_all_the_while() -> None:
    sim = Sim()
    call = sim.dial()
    sim.wait(0.7)
    sim.prompt_ends(call)
    sim.wait(1.0)
    sim.prompt_ends(call)
    sim.wait(0.6)
    assert sim.all(do.StartMusic, call)
    sim.wait(0.3)
    assert sim.at_step(call) == "to_general"
    assert sim.all(do.StopMusic, call)


def test_late_payer_goes_to_billing_without_a_single_prompt() -> None:
    sim = Sim()
    sim.agent_is_ready("105")
    call = sim.dial()
    sim.answer_action(call, CARLA)
    assert sim.all(do.Play, call) == []
    assert sim.last(do.RingAgent, call).endpoint == "105"


def test_unknown_caller_enters_the_reference_and_is_looked_up_again() -> None:
    sim = Sim()
    call = sim.dial("+493055500099")
    sim.answer_action(call, {"count": 0, "found": False})
    sim.press(call, "272")
    assert sim.all(do.StopPlay, call), "the first key barges in"
    sim.press(call, "2541#")
    assert sim.last(do.StartAction, call).params == {"digits": "2722541"}
    sim.answer_action(call, ANNA)
    assert sim.at_step(call) == "premium_announcement"


@pytest.mark.parametrize("count", [0, 2])
def test_reference_that_finds_nobody_or_several_goes_to_the_back_of_the_general_queue(count: int) -> None:
    sim = Sim()
    sim.agent_is_ready("103")
    call = sim.dial("anonymous")
    sim.press(call, "7654321")
    sim.answer_action(call, {"count": count, "found": False})
    sim.prompt_ends(call)
    queued = sim.last(facts.Queued, call)
    assert (queued.queue, queued.credit) == ("general", -3600.0)


def test_anonymous_caller_is_not_looked_up() -> None:
    sim = Sim()
    call = sim.dial("anonymous")
    assert sim.all(do.StartAction, call) == []
    assert sim.at_step(call) == "ask_reference"


def test_three_kinds_of_silence_are_told_apart_and_two_retries_are_given() -> None:
    sim = Sim()
    call = sim.dial("")
    sim.prompt_ends(call)
    sim.wait(6.1)
    assert sim.heard(call).endswith("We have not received anything. Please enter your seven character customer reference.")
    sim.press(call, "12")
    sim.wait(4.1)
    assert "This is not a complete reference" in sim.heard(call)
    sim.press(call, "123#")
    assert sim.at_step(call) == "to_general"


def test_not_premium_gets_a_mail_with_the_link_and_hears_so_only_after_it_was_taken() -> None:
    sim = Sim()
    call = sim.dial()
    sim.answer_action(call, BEN)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.answer_action(call, {"url": "http://127.0.0.1:8081/track/abc", "token": "abc"})
    mail = sim.last(do.SendMail, call)
    assert mail.to == "ben@example.com"
    assert mail.body.count("http://127.0.0.1:8081/track/abc") == 1
    assert "have sent you" not in sim.heard(call)
    sim.happen(ev.MailSent(call, mail.request))
    assert "have sent you" in sim.heard(call)
    sim.prompt_ends(call)
    assert sim.all(do.HangUp, call)
    sim.hangs_up(call)
    assert sim.ending(call) == "self_service"


@pytest.mark.parametrize("lack", ["email", "order_id", "mail refused", "link fails"])
def test_without_mail_or_order_nothing_false_is_said_and_an_agent_is_offered(lack: str) -> None:
    sim = Sim()
    sim.agent_is_ready("103")
    call = sim.dial()
    sim.answer_action(call, {**BEN, lack: ""} if lack in BEN else BEN)
    sim.prompt_ends(call)
    if lack == "link fails":
        sim.prompt_ends(call)
        sim.fail_action(call)
    elif lack == "mail refused":
        sim.prompt_ends(call)
        sim.answer_action(call, {"url": "http://x/track", "token": "t"})
        sim.happen(ev.MailFailed(call, sim.last(do.SendMail, call).request, "refused"))
    assert sim.at_step(call) == "offer_agent"
    assert "have sent you" not in sim.heard(call)
    sim.press(call, "1")
    sim.prompt_ends(call)
    assert sim.last(do.RingAgent, call).endpoint == "103"


def test_nobody_signed_in_is_said_and_the_call_goes_to_the_fallback() -> None:
    sim = Sim()
    call = sim.dial()
    sim.answer_action(call, ANNA)
    for _ in range(3):
        sim.prompt_ends(call)
    assert "No agent can take your call" in sim.heard(call)
    assert sim.last(do.Release, call).context == "callwright-fallback"
    sim.hangs_up(call)
    assert sim.ending(call) == "released"


def test_ten_minutes_of_waiting_end_in_a_message_and_the_fallback() -> None:
    sim = Sim()
    sim.agent_is_ready("101")
    sim.happen(ev.AgentBecameNotReady("101", "lunch"))
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.wait(599)
    assert sim.at_step(call) == "premium_queue"
    sim.wait(2)
    assert sim.at_step(call) == "nobody_free"


def test_ring_no_answer_requeues_and_parks_the_agent() -> None:
    sim = Sim()
    sim.agent_is_ready("101")
    sim.agent_is_ready("102")
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    first = sim.last(do.RingAgent, call)
    sim.happen(ev.LegEnded(call, first.leg, 19))
    assert sim.center.acd.state(first.endpoint)["presence"] == "not_ready"
    second = sim.last(do.RingAgent, call)
    assert second.endpoint != first.endpoint
    assert second.leg != first.leg
    assert len(sim.all(facts.Queued, call)) == 1, "its place was kept, it was not queued anew"


def test_an_agent_who_answers_and_hangs_up_in_one_breath_has_not_served_the_caller() -> None:
    sim = Sim()
    sim.agent_is_ready("102")
    call = premium_caller_talks(sim)
    first = sim.last(do.RingAgent, call)
    sim.happen(ev.LegEnded(call, first.leg))
    assert sim.center.acd.state(first.endpoint)["presence"] == "not_ready"
    second = sim.last(do.RingAgent, call)
    assert second.endpoint != first.endpoint
    assert sim.last(do.StartMusic, call)
    assert len(sim.all(facts.Queued, call)) == 1, "its place was kept, it was not queued anew"
    sim.answers(call)
    sim.wait(5)
    sim.happen(ev.LegEnded(call, second.leg))
    assert sim.last(facts.TalkEnded, call).agent == second.endpoint


def test_the_record_is_on_the_screen_before_the_phone_rings() -> None:
    sim = Sim()
    sim.agent_is_ready("101", desk=True)
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    pop = sim.last(do.Pop, call)
    assert pop.card["contact"]["id"] == "c-anna"
    assert (pop.card["queue"], pop.card["tier"], pop.card["reference"]) == ("premium", "gold", "ASC2K41")
    assert sim.all(do.RingAgent, call) == []
    sim.happen(ev.DeskAcknowledged("101", call, pop.offer))
    assert len(sim.all(do.RingAgent, call)) == 1
    sim.wait(0.2)
    assert len(sim.all(do.RingAgent, call)) == 1


def test_a_desk_that_says_nothing_delays_the_phone_by_150_ms_at_most() -> None:
    sim = Sim()
    sim.agent_is_ready("101", desk=True)
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.wait(0.151)
    assert len(sim.all(do.RingAgent, call)) == 1


def test_asterisk_restart_ends_every_call_once_and_frees_the_agent() -> None:
    sim = Sim()
    talking = premium_caller_talks(sim)
    asking = sim.dial("")
    sim.happen(ev.PbxLost("closed"))
    sim.happen(ev.PbxBack(restarted=True))
    for call in (talking, asking):
        sim.hangs_up(call, 0)
        sim.hangs_up(call, 0)
        assert sim.ending(call) == "lost_media_server"
    assert sim.center.acd.state("101")["work"] == []
    assert sim.live == {}


def test_one_call_that_raises_takes_its_error_exit_and_no_other_notices() -> None:
    sim = Sim()
    other = premium_caller_talks(sim)
    call = sim.dial()
    sim.answer_action(call, {**ANNA, "skills": {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}, "first_name": "B"})
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "to_general", "a sixth skill is an error of that step"
    assert sim.center.calls[other].phase == "talking"


# ---- every moment --------------------------------------------------------------------------------------------------------

Script = list[Callable[[Sim, str], None]]


def premium_story() -> Script:
    """A premium caller's whole visit, by reference, with a retry and a ring-no-answer, as single happenings."""
    return [
        lambda s, c: s.answer_action(c, {"count": 0, "found": False}),
        lambda s, c: (s.wait(10), s.prompt_ends(c))[1],
        lambda s, c: s.wait(6.1),
        lambda s, c: s.press(c, "2"),
        lambda s, c: s.press(c, "72"),
        lambda s, c: s.press(c, "#"),
        lambda s, c: s.press(c, "272"),
        lambda s, c: s.press(c, "2541"),
        lambda s, c: s.answer_action(c, ANNA),
        lambda s, c: (s.wait(5), s.prompt_ends(c))[1],
        lambda s, c: s.wait(30),
        lambda s, c: s.happen(ev.AgentBecameReady("101")),
        lambda s, c: s.wait(0.2),
        lambda s, c: s.happen(ev.LegRinging(c, s.last(do.RingAgent, c).leg)),
        lambda s, c: s.happen(ev.LegEnded(c, s.last(do.RingAgent, c).leg, 19)),
        lambda s, c: s.happen(ev.AgentBecameReady("101")),
        lambda s, c: s.wait(0.2),
        lambda s, c: s.happen(ev.LegRinging(c, s.last(do.RingAgent, c).leg)),
        lambda s, c: s.happen(ev.LegAnswered(c, s.last(do.RingAgent, c).leg)),
        lambda s, c: s.wait(20),
        lambda s, c: s.happen(ev.LegEnded(c, s.last(do.RingAgent, c).leg, 16)),
    ]


def signed_in() -> Sim:
    sim = Sim()
    sim.agent_is_ready("101", desk=True)
    sim.happen(ev.AgentBecameNotReady("101", "coffee"))
    return sim


def play_through(crash_before: int = -1, leave_before: int = -1) -> tuple[Sim, str]:
    sim = signed_in()
    call = sim.dial("+493055500099")
    for n, happening in enumerate(premium_story()):
        if n == leave_before:
            break
        if n == crash_before:
            sim.crash()
            sim.happen(ev.DeskFound("101"))
        happening(sim, call)
    return sim, call


@pytest.mark.parametrize("moment", range(len(premium_story()) + 1))
def test_caller_hangs_up_at_any_moment(moment: int) -> None:
    sim, call = play_through(leave_before=moment)
    sim.hangs_up(call)
    assert sim.ending(call) in {"hung_up", "abandoned", "answered"}
    sim.wait(31)
    assert sim.center.calls == {}
    assert sim.live == {}
    assert sim.center.acd.state("101")["work"] == []
    assert sim.center.next_deadline() is None


@pytest.mark.parametrize("moment", range(len(premium_story())))
def test_a_crash_at_any_moment_changes_neither_path_nor_prompts_nor_ids(moment: int) -> None:
    plain, call = play_through()
    crashed, same = play_through(crash_before=moment)
    assert call == same
    assert crashed.steps(call) == plain.steps(call)
    assert [f.exit for f in crashed.all(facts.StepLeft)] == [f.exit for f in plain.all(facts.StepLeft)]
    assert crashed.heard(call) == plain.heard(call)
    assert [r.leg for r in crashed.all(do.RingAgent)] == [r.leg for r in plain.all(do.RingAgent)]
    assert crashed.last(facts.Queued).first == plain.last(facts.Queued).first


def test_a_prompt_that_the_dead_process_never_began_is_played_by_the_next_one_once() -> None:
    sim = Sim()
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.crash()
    sim.prompt_ends(call)
    assert [play.playback for play in sim.all(do.Play, call)].count(sim.last(do.Play, call).playback) == 2
    sim.crash()
    sim.wait(5)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "premium_announcement"
