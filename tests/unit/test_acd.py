"""The rules of distribution, by example, on virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.core.acd import BACK, FRONT, PRESENCE, REFUSAL, WORK, Acd, AgentDef, IllegalMove, QueueDef, Relax, UnknownAgent, Waiting
from app.core.acd.queues import UnknownInteraction, UnknownQueue

QUEUES = {"sales": QueueDef("sales"), "support": QueueDef("support", relax=(Relax(30, "router", 3), Relax(60, "router", 0)))}


def agent(name: str, skills: dict[str, int] | None = None, queues: tuple[str, ...] = ("sales", "support")) -> AgentDef:
    return AgentDef(name, name.title(), f"phone-{name}", skills or {}, queues)


def centre(*agents: AgentDef, ready: bool = True) -> Acd:
    """A centre whose agents became ready one second after another, from 0."""
    acd = Acd(QUEUES, {about.id: about for about in agents})
    for now, about in enumerate(agents):
        acd.sign_in(about.id, now)
        acd.phone(about.id, True, False, now)
        if ready:
            acd.ready(about.id, now)
    return acd


def caller(name: str, first: float, queue: str = "sales", skills: dict[str, int] | None = None, **more: Any) -> Waiting:
    return Waiting(name, queue, skills or {}, first, **more)


def pairs(acd: Acd, now: float) -> list[tuple[str, str]]:
    return [(match.interaction, match.agent) for match in acd.match(now)]


def talk(acd: Acd, name: str, interaction: str, now: float) -> None:
    for verb in ("answer", "joined"):
        acd.work(name, interaction, verb, now)


def finish(acd: Acd, name: str, interaction: str, now: float) -> None:
    talk(acd, name, interaction, now)
    acd.work(name, interaction, "hangup", now)
    acd.work(name, interaction, "done", now)


# ---- the order of those who wait --------------------------------------------------------------------------------------


def test_first_come_first_served_across_the_queues_of_an_agent() -> None:
    acd = centre(agent("ann"), ready=False)
    for item in (caller("b", 2, "support"), caller("a", 1), caller("c", 3)):
        acd.enqueue(item, 3)
    acd.ready("ann", 4)
    order = []
    for now in (5, 6, 7):
        [(interaction, name)] = pairs(acd, now)
        order.append(interaction)
        finish(acd, name, interaction, now)
    assert order == ["a", "b", "c"]


def test_front_of_the_queue_is_position_one_among_five_and_back_is_last() -> None:
    acd = centre()
    for n in range(4):
        acd.enqueue(caller(f"n{n}", n), n)
    acd.enqueue(caller("premium", 4, credit=FRONT), 4)
    acd.enqueue(caller("failed", 0.5, credit=BACK), 4)
    assert acd.position("premium") == 1
    assert acd.position("failed") == 6
    assert [item.interaction for item in acd.waiting("sales")] == ["premium", "n0", "n1", "n2", "n3", "failed"]


def test_who_waits_longer_than_the_difference_of_credits_goes_first() -> None:
    acd = centre()
    acd.enqueue(caller("old", 0, credit=BACK), 0)
    acd.enqueue(caller("new", 3601), 3601)
    acd.enqueue(caller("newest", 7201, credit=FRONT), 7201)
    assert [item.interaction for item in acd.waiting("sales")] == ["old", "new", "newest"]


def test_a_queue_names_its_own_credits() -> None:
    queue = QueueDef("vip", front=60)
    assert [queue.credit(word) for word in ("front", "normal", "back")] == [60, 0, -3600]
    with pytest.raises(ValueError, match="urgent"):
        queue.credit("urgent")


def test_who_goes_to_the_back_keeps_his_first_time_and_loses_his_place() -> None:
    acd = centre()
    acd.enqueue(caller("a", 1), 1)
    acd.enqueue(caller("b", 2, "sales", {}), 2)
    acd.match(2)
    acd.leave("a")
    acd.enqueue(caller("a", 1, credit=BACK), 3)
    assert [item.interaction for item in acd.waiting("sales")] == ["b", "a"]
    assert (acd.position("b"), acd.position("a")) == (1, 2)
    acd.leave("b")
    assert acd.position("a") == 1


# ---- which agent --------------------------------------------------------------------------------------------------------


def test_the_fitter_then_the_less_versatile_then_the_longest_idle_then_the_id() -> None:
    learner, able, polyglot = agent("learner", {"de": 3}), agent("able", {"de": 6}), agent("polyglot", {"de": 10, "en": 10, "fr": 10})
    expert, second, twin = agent("expert", {"de": 8, "en": 8}), agent("second", {"de": 9, "en": 2}), agent("a-twin", {"de": 9, "en": 2})
    acd = centre(learner, able, polyglot, expert, second)
    acd.load_agent("second", {**acd.dump_agent("second"), "idle_since": 4.0})
    both = Acd(QUEUES, {about.id: about for about in (second, twin)})
    for name in ("second", "a-twin"):
        both.load_agent(name, acd.dump_agent("second"))
    order = []
    for n in range(5):
        acd.enqueue(caller(f"c{n}", 10 + n, skills={"de": 2}), 10 + n)
        order.append(acd.match(10 + n)[0].agent)
    assert order == ["expert", "second", "polyglot", "able", "learner"]
    both.enqueue(caller("c", 10, skills={"de": 2}), 10)
    assert pairs(both, 10) == [("c", "a-twin")]


def test_nobody_below_the_level_and_nobody_of_another_queue_is_offered_anything() -> None:
    acd = centre(agent("low", {"de": 4}), agent("other", {"de": 9}, ("support",)))
    acd.enqueue(caller("c", 5, skills={"de": 5}), 5)
    assert acd.match(5) == []
    assert acd.able("sales", {"de": 5}) == (0, 0)
    assert acd.why_not("c", "low", 5) == {"reason": "skills", "lacking": {"de": 5}}
    assert acd.why_not("c", "other", 5) == {"reason": "queue", "queue": "sales"}


@pytest.mark.parametrize(("at", "served"), [(29.9, "strong"), (30, "medium"), (60, "none")])
def test_a_queue_asks_for_less_the_longer_one_waits(at: float, served: str) -> None:
    agents = {"strong": agent("strong", {"router": 8}), "medium": agent("medium", {"router": 3}), "none": agent("none")}
    acd = centre(*agents.values())
    for name in agents:
        if name != served:
            acd.not_ready(name, 3)
    acd.enqueue(caller("c", 0, "support", {"router": 8}), 3)
    earlier = {29.9: 3, 30: 29.9, 60: 59.9}[at]
    if served != "strong":
        assert acd.match(earlier) == []
        assert acd.next_deadline() == at
    assert pairs(acd, at) == [("c", served)]


def test_an_agent_who_comes_late_finds_whom_relaxation_let_in_while_he_waited() -> None:
    acd = centre(agent("weak", {"router": 4, "de": 2}), agent("german", {"de": 5}), ready=False)
    acd.enqueue(caller("c", 0, "support", {"router": 8, "de": 2}), 0)
    acd.enqueue(caller("d", 1, "support", {"router": 8, "de": 2}), 1)
    for now in (1, 31):
        assert acd.match(now) == []
    acd.ready("weak", 32)
    assert pairs(acd, 32) == [("c", "weak")]
    assert acd.match(61) == []
    acd.ready("german", 62)
    assert pairs(acd, 62) == [("d", "german")]


def test_who_returns_with_other_asks_is_found_by_what_he_asks_now() -> None:
    acd = centre(agent("ann", {"de": 5}), agent("bob", {"en": 5}), ready=False)
    acd.enqueue(caller("c", 0, skills={"en": 9, "de": 5}), 0)
    assert acd.match(0) == []
    acd.leave("c")
    acd.enqueue(caller("c", 0, skills={"de": 5}), 1)
    assert acd.match(1) == []
    acd.ready("bob", 2)
    assert acd.match(2) == []
    acd.ready("ann", 3)
    assert pairs(acd, 3) == [("c", "ann")]


def test_who_meets_the_first_ask_goes_before_who_only_passes_by_relaxation() -> None:
    acd = centre(agent("none"), agent("weak", {"router": 1, "de": 1, "en": 1}))
    acd.enqueue(caller("c", -60, "support", {"router": 1}), 5)
    match = acd.match(5)[0]
    assert match.agent == "weak"
    assert match.decision["runner_up"] == {"agent": "none", "behind_by": "fit"}


def test_able_counts_those_whom_relaxation_will_let_in_ready_or_not() -> None:
    acd = centre(agent("strong", {"router": 9}), agent("none"), agent("away"))
    acd.not_ready("away", 3)
    assert acd.able("support", {"router": 9}) == (3, 2)
    acd.sign_out("none", 4)
    assert acd.able("support", {"router": 9}) == (2, 1)
    assert acd.able("support", {"router": 9, "klingon": 1}) == (0, 0)
    assert acd.able("closed", {}) == (0, 0)


# ---- last agent -----------------------------------------------------------------------------------------------------------


def test_a_free_last_agent_gets_his_caller_before_fitter_agents() -> None:
    acd = centre(agent("expert", {"de": 9}), agent("last", {"de": 1, "en": 1}))
    acd.enqueue(caller("c", 5, skills={"de": 1}, last_agent="last", last_agent_until=5), 5)
    match = acd.match(5)[0]
    assert (match.agent, match.decision["last_agent"]) == ("last", True)
    assert match.decision["runner_up"] == {"agent": "expert", "behind_by": "last_agent"}


def busy_last_agent() -> Acd:
    acd = centre(agent("last"), agent("other"))
    acd.enqueue(caller("earlier", 5, last_agent="last", last_agent_until=5), 5)
    assert pairs(acd, 5) == [("earlier", "last")]
    talk(acd, "last", "earlier", 6)
    acd.enqueue(caller("c", 7, last_agent="last", last_agent_until=27), 7)
    assert acd.match(7) == []
    return acd


def test_a_busy_last_agent_is_waited_for_and_then_it_falls_back() -> None:
    acd = busy_last_agent()
    assert acd.next_deadline() == 27
    assert acd.why_not("c", "other", 8) == {"reason": "last_agent", "waits_for": "last", "until": 27}
    assert acd.match(26.9) == []
    assert pairs(acd, 27) == [("c", "other")]


def test_a_last_agent_who_becomes_free_in_time_gets_his_caller() -> None:
    acd = busy_last_agent()
    acd.work("last", "earlier", "hangup", 20)
    acd.work("last", "earlier", "done", 21)
    assert pairs(acd, 21) == [("c", "last")]


@pytest.mark.parametrize("wish", ["not_ready", "sign_out", "phone"])
def test_a_last_agent_who_gives_up_working_is_not_waited_for(wish: str) -> None:
    acd = busy_last_agent()
    if wish == "phone":
        acd.phone("last", False, False, 10)
    else:
        getattr(acd, wish)("last", 10)
    assert pairs(acd, 10) == [("c", "other")]


# ---- offers that come to nothing ---------------------------------------------------------------------------------------------


def test_ring_no_answer_requeues_and_parks_the_agent() -> None:
    acd = centre(agent("ann"), agent("bob"))
    for n in (1, 2, 3):
        acd.enqueue(caller(f"c{n}", n), n)
    assert pairs(acd, 4) == [("c1", "ann"), ("c2", "bob")]
    acd.work("ann", "c1", "no_answer", 19)
    acd.requeue("c1", 19)
    assert (acd.state("ann")["presence"], acd.state("ann")["reason"]) == ("not_ready", "no_answer")
    assert [acd.position(f"c{n}") for n in (1, 2, 3)] == [1, 0, 2]
    finish(acd, "bob", "c2", 20)
    assert pairs(acd, 20) == [("c1", "bob")]


def test_who_rejects_is_not_asked_again_at_once_and_the_next_caller_is_his() -> None:
    acd = centre(agent("ann"))
    acd.enqueue(caller("c1", 1), 1)
    acd.enqueue(caller("c2", 2), 2)
    assert pairs(acd, 2) == [("c1", "ann")]
    acd.work("ann", "c1", "reject", 3)
    acd.requeue("c1", 3)
    assert pairs(acd, 3) == [("c2", "ann")]
    finish(acd, "ann", "c2", 4)
    assert acd.match(4) == []
    assert acd.why_not("c1", "ann", 4) == {"reason": "refused", "until": 3 + REFUSAL}
    assert acd.next_deadline() == 3 + REFUSAL
    assert pairs(acd, 3 + REFUSAL) == [("c1", "ann")]


def test_a_requeue_while_the_offer_stands_is_refused_and_changes_nothing() -> None:
    acd = centre(agent("ann"), agent("bob"))
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    with pytest.raises(IllegalMove, match="requeue"):
        acd.requeue("c", 2)
    assert acd.match(2) == []


@pytest.mark.parametrize("verbs", [("withdraw",), ("answer", "failed")])
def test_a_caller_who_leaves_as_the_agent_rings_or_answers_leaves_the_agent_idle_without_penalty(verbs: tuple[str, ...]) -> None:
    acd = centre(agent("ann"))
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    acd.leave("c")
    for verb in verbs:
        acd.work("ann", "c", verb, 2)
    assert (acd.state("ann")["presence"], acd.state("ann")["work"]) == ("ready", [])
    acd.enqueue(caller("d", 3), 3)
    assert pairs(acd, 3) == [("d", "ann")]


@pytest.mark.parametrize(
    ("winner", "loser"), [("answer", "no_answer"), ("no_answer", "answer"), ("withdraw", "answer"), ("answer", "withdraw")]
)
def test_answer_and_timeout_at_the_same_moment_have_exactly_one_winner(winner: str, loser: str) -> None:
    acd = centre(agent("ann"))
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    acd.work("ann", "c", winner, 16)
    before = acd.dump_agent("ann")
    with pytest.raises(IllegalMove) as refused:
        acd.work("ann", "c", loser, 16)
    assert (refused.value.verb, refused.value.kind) == (loser, "illegal-move")
    assert acd.dump_agent("ann") == before


def test_two_queues_and_fifty_callers_never_offer_an_agent_twice() -> None:
    acd = centre(*[agent(f"a{n}") for n in range(10)])
    for n in range(50):
        acd.enqueue(caller(f"c{n:02}", 20 + n / 100, ("sales", "support")[n % 2]), 21)
    first = pairs(acd, 21)
    assert [interaction for interaction, _ in first] == [f"c{n:02}" for n in range(10)]
    assert len({name for _, name in first}) == 10
    for interaction, name in first:
        acd.work(name, interaction, "reject", 22)
        acd.requeue(interaction, 22)
    second = pairs(acd, 22)
    assert len({name for _, name in second}) == len(second) == 10
    assert not set(first) & set(second)


# ---- presence ------------------------------------------------------------------------------------------------------------------


def test_not_ready_while_talking_takes_effect_after_wrap_up_and_ready_takes_it_back() -> None:
    acd = centre(agent("ann"))
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    talk(acd, "ann", "c", 2)
    acd.not_ready("ann", 3, "lunch")
    assert (acd.state("ann")["presence"], acd.state("ann")["pending"]) == ("ready", "not_ready")
    acd.ready("ann", 4)
    assert acd.state("ann")["pending"] == ""
    acd.not_ready("ann", 5, "lunch")
    acd.work("ann", "c", "hangup", 6)
    assert acd.state("ann")["presence"] == "ready"
    acd.work("ann", "c", "expire", 36)
    assert (acd.state("ann")["presence"], acd.state("ann")["reason"], acd.state("ann")["pending"]) == ("not_ready", "lunch", "")


def test_sign_out_in_a_call_takes_effect_after_it_and_an_unanswered_offer_signs_out_too() -> None:
    acd = centre(agent("ann"), agent("bob"))
    for n in (1, 2):
        acd.enqueue(caller(f"c{n}", n), n)
    acd.match(3)
    talk(acd, "ann", "c1", 4)
    for name in ("ann", "bob"):
        acd.sign_out(name, 5)
        assert acd.state(name)["presence"] == "ready"
    acd.work("ann", "c1", "hangup", 6)
    acd.work("ann", "c1", "done", 7)
    acd.work("bob", "c2", "no_answer", 7)
    assert [acd.state(name)["presence"] for name in ("ann", "bob")] == ["signed_out", "signed_out"]


@pytest.mark.parametrize("phone", [(False, False), (True, True), (False, True)])
def test_a_phone_that_is_away_or_in_use_gets_no_offer(phone: tuple[bool, bool]) -> None:
    acd = centre(agent("ann"))
    acd.phone("ann", *phone, 1)
    acd.enqueue(caller("c", 2), 2)
    assert acd.match(2) == []
    assert acd.why_not("c", "ann", 2)["reason"] == "phone"
    acd.phone("ann", True, False, 3)
    assert pairs(acd, 3) == [("c", "ann")]


def test_a_lost_desk_takes_no_work_away() -> None:
    acd = centre(agent("ann"))
    acd.desk("ann", True, 1)
    acd.enqueue(caller("c", 2), 2)
    acd.match(2)
    acd.desk("ann", False, 3)
    assert [work["state"] for work in acd.state("ann")["work"]] == ["offered"]


def drive(acd: Acd, state: str) -> None:
    """Bring ann, who is ready, into a work state."""
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    path = {"offered": (), "connecting": ("answer",), "talking": ("answer", "joined"), "held": ("answer", "joined", "hold")}
    for verb in path.get(state, ("answer", "joined", "hangup")):
        acd.work("ann", "c", verb, 2)


@pytest.mark.parametrize("state", WORK)
@pytest.mark.parametrize("verb", sorted({verb for verbs in WORK.values() for verb in verbs}))
def test_the_work_table_is_all_there_is(state: str, verb: str) -> None:
    acd = centre(agent("ann"))
    drive(acd, state)
    before = acd.dump_agent("ann")
    assert [work["state"] for work in before["work"]] == [state]
    if verb in WORK[state]:
        acd.work("ann", "c", verb, 3)
        after = [work["state"] for work in acd.state("ann")["work"]]
        assert after == ([WORK[state][verb]] if WORK[state][verb] else [])
    else:
        with pytest.raises(IllegalMove) as refused:
            acd.work("ann", "c", verb, 3)
        assert (refused.value.verb, refused.value.state, refused.value.kind) == (verb, state, "illegal-move")
        assert acd.dump_agent("ann") == before


@pytest.mark.parametrize("state", PRESENCE)
@pytest.mark.parametrize("verb", ["sign_in", "sign_out", "ready", "not_ready"])
def test_the_presence_table_is_all_there_is(state: str, verb: str) -> None:
    acd = centre(agent("ann"))
    if state != "ready":
        acd.not_ready("ann", 1)
    if state == "signed_out":
        acd.sign_out("ann", 1)
    before = acd.dump_agent("ann")
    if verb in PRESENCE[state]:
        getattr(acd, verb)("ann", 2)
        assert (acd.state("ann")["presence"], acd.state("ann")["since"]) == (PRESENCE[state][verb], 2)
    else:
        with pytest.raises(IllegalMove) as refused:
            getattr(acd, verb)("ann", 2)
        assert (refused.value.verb, refused.value.state) == (verb, state)
        assert acd.dump_agent("ann") == before


def test_all_agents_gone_leaves_the_callers_in_line_and_says_so() -> None:
    acd = centre(agent("ann"), agent("bob"))
    acd.enqueue(caller("c1", 1), 1)
    acd.match(1)
    acd.enqueue(caller("c2", 2), 2)
    acd.sign_out("bob", 2)
    acd.work("ann", "c1", "no_answer", 3)
    acd.requeue("c1", 3)
    acd.sign_out("ann", 4)
    assert acd.match(5) == []
    assert acd.able("sales", {}) == (0, 0)
    assert [item.interaction for item in acd.waiting("sales")] == ["c1", "c2"]


def test_a_queue_or_skill_that_is_gone_after_a_restart_strands_nobody_silently() -> None:
    acd = Acd({"sales": QUEUES["sales"]}, {"ann": agent("ann")})
    with pytest.raises(UnknownQueue, match="support"):
        acd.enqueue(caller("c", 1, "support"), 1)
    acd.enqueue(caller("d", 1, skills={"gone": 1}), 1)
    assert acd.able("sales", {"gone": 1}) == (0, 0)
    assert acd.position("d") == 1


# ---- errors, facts, rows ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_errors_and_leaving_twice_is_silence() -> None:
    acd = centre(agent("ann"))
    with pytest.raises(UnknownAgent, match="bob"):
        acd.ready("bob", 1)
    with pytest.raises(UnknownInteraction, match="nobody"):
        acd.requeue("nobody", 1)
    acd.enqueue(caller("c", 1), 1)
    with pytest.raises(ValueError, match="already"):
        acd.enqueue(caller("c", 1), 1)
    acd.leave("c")
    acd.leave("c")
    assert acd.position("c") == 0


@pytest.mark.parametrize("skills", [{"de": 0}, {"de": 11}, {"de": True}, {"de": 5.0}, {f"s{n}": 1 for n in range(6)}])
def test_six_skills_or_a_level_out_of_range_are_refused(skills: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="c"):
        caller("c", 1, skills=skills)


def test_changed_names_each_agent_once() -> None:
    acd = centre(agent("ann"), agent("bob"))
    assert acd.changed() == ["ann", "bob"]
    assert acd.changed() == []
    acd.enqueue(caller("c", 1), 1)
    acd.match(1)
    assert acd.changed() == ["ann"]


def test_the_decision_record_lists_what_each_rule_saw_and_is_json() -> None:
    acd = centre(agent("ann", {"router": 5}), agent("bob", {"router": 9, "de": 1}))
    acd.enqueue(caller("c", -32, "support", {"router": 6}, credit=FRONT), 10)
    record = acd.match(10)[0].decision
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "agent": "bob",
        "queue": "support",
        "waited": 42,
        "credit": 3600,
        "asked": {"router": 6},
        "relaxed": {"router": 3},
        "last_agent": False,
        "fit": 0,
        "versatility": 4,
        "idle": 9,
        "runner_up": {"agent": "ann", "behind_by": "fit"},
    }


def test_rows_go_through_json_and_give_the_same_centre_back() -> None:
    acd = centre(agent("ann"), agent("bob"), agent("cy"))
    for n in range(5):
        acd.enqueue(caller(f"c{n}", n, credit=(0.0, FRONT)[n % 2]), 5)
    acd.match(5)
    talk(acd, "ann", "c1", 6)
    rows = json.loads(json.dumps({name: acd.dump_agent(name) for name in ("ann", "bob", "cy")}))
    items = [Waiting.load(json.loads(json.dumps(acd.item(f"c{n}").dump()))) for n in (4, 0, 2, 3)]
    other = Acd(QUEUES, {name: agent(name) for name in rows})
    for name, row in rows.items():
        other.load_agent(name, row)
    other.restore(items, [work["interaction"] for row in rows.values() for work in row["work"]])
    assert other.states() == acd.states()
    assert other.waiting("sales") == acd.waiting("sales")
    for one in (acd, other):
        one.work("bob", "c3", "no_answer", 20)
        one.requeue("c3", 20)
        one.work("ann", "c1", "hangup", 21)
        one.work("ann", "c1", "done", 21)
        assert pairs(one, 21) == [("c3", "ann")]
