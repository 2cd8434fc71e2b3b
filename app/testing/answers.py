"""How other systems answer in a test: from the samples of the action files, reduced by the production extraction.

An action answers, in this order, with

1. what the test chose for it (`centre.action("crm.contact_by_phone").answers(...)`, `.fails()` and so on);
2. the sample that has the very parameters that are asked for;
3. the first sample that succeeds and finds nobody (its `count` is 0);
4. the first sample that succeeds, for an action that counts nothing.

A sample's body goes through the action's own JMESPaths (`app.actions.extract`), and parameters that make no request are a `bad_request`,
as in production. An answer takes `LATENCY` seconds; one that takes longer than the budget of the step is a `timeout` when that is over.
Not simulated: retries, the circuit breaker, and how many requests a system takes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.actions.failures import Failed
from app.actions.http import Answer
from app.actions.method import MAX_BUDGET, Sample
from app.actions.prepare import Prepared
from app.actions.samples import request_of, sample_parameters
from app.actions.templates import BadValue
from app.actions.values import TooBig, WrongType, convert
from app.core import commands as do
from app.core import events as ev

LATENCY = 0.08
NEVER = 1e6
"""Seconds after which no step of any flow still waits."""
NONSENSE = b"<html>It works!</html>"
MODES = ("slow", "failing", "nonsense")
KEPT = 4096

Outcome = dict[str, Any] | tuple[str, str]
"""The attributes of an answer, or the reason and the detail of a failure."""


def mode_of(crm: str | float) -> str | float:
    """A mode for all actions of one call: "slow", "failing", "nonsense", seconds that every answer takes, or "" for none."""
    if isinstance(crm, str) and crm and crm not in MODES:
        raise ValueError(f"crm: expected {', '.join(MODES)} or a number of seconds, found {crm!r}")
    return crm


class ActionAnswers:
    """One action of the project, and what it answers."""

    def __init__(self, prepared: Prepared) -> None:
        self.name = prepared.definition.name
        self.asked: list[Mapping[str, Any]] = []
        """The parameters of each request so far."""
        self._prepared = prepared
        self._samples = prepared.definition.samples
        self._parameters = {title: self._with_defaults(sample_parameters(prepared.definition, title)) for title in self._samples}
        self._outcomes: dict[str, Outcome] = {title: self._of_sample(sample) for title, sample in self._samples.items()}
        self._known: dict[tuple[Any, ...], tuple[Outcome | None, Outcome]] = {}
        self._chosen: Callable[[Mapping[str, Any]], Outcome] | None = None
        self._seconds = LATENCY

    # ---- what a test chooses -------------------------------------------------------------------------------------------

    def answers(
        self, values: Mapping[str, Any] | None = None, *, sample: str = "", body: str | bytes | None = None, **more: Any
    ) -> ActionAnswers:
        """Answer like this from now on: a sample by its title, a response's body, or attributes.

        Attributes are laid over the sample that is named, or over the first one that succeeds and finds somebody. Gives itself.
        """
        named = {**(values or {}), **more}
        if body is not None:
            if sample or named:
                raise ValueError("answers: give a body, or a sample and attributes, not both")
            raw = body.encode() if isinstance(body, str) else body
            return self._choose(lambda asked: self._extracted(raw))
        base = self._outcomes[self._title(sample)] if sample else self._somebody()
        return self._choose_outcome(self._over(base, named) if named else base)

    def answers_from(self, find: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> ActionAnswers:
        """Ask a function for each answer: given the parameters, it gives attributes (laid over a sample as above), or None for nobody."""

        def answer(asked: Mapping[str, Any]) -> Outcome:
            found = find(asked)
            return self._nobody() if found is None else self._over(self._somebody(), found)

        return self._choose(answer)

    def fails(self, reason: str = "status") -> ActionAnswers:
        """Fail from now on, for one of the reasons of `ActionFailed`."""
        return self._choose_outcome((reason, "the test wants it"))

    def talks_nonsense(self) -> ActionAnswers:
        """Answer with a page that is no JSON."""
        return self._choose(lambda asked: self._extracted(NONSENSE))

    def slow(self, seconds: float = NEVER) -> ActionAnswers:
        """Take so many seconds for an answer; by default longer than anybody waits."""
        self._seconds = seconds
        return self

    def as_usual(self) -> ActionAnswers:
        """Answer from the samples again."""
        self._chosen, self._seconds = None, LATENCY
        return self

    # ---- what comes of it ----------------------------------------------------------------------------------------------

    def answer(self, command: do.StartAction, mode: str | float) -> tuple[float, ev.CallEvent]:
        """After how many seconds what comes of the request; `mode` is the call's own."""
        self.asked.append(command.sent)
        seconds = self._seconds
        if mode == "failing":
            outcome: Outcome = ("status", "HTTP 503")
        elif mode == "nonsense":
            outcome = self._extracted(NONSENSE)
        else:
            seconds = NEVER if mode == "slow" else float(mode or seconds)
            outcome = self._outcome(command.sent)
        budget = min(command.budget, MAX_BUDGET)
        if seconds >= budget:
            seconds, outcome = budget, ("timeout", f"no answer within {budget:g} s")
        ms = round(seconds * 1000)
        if isinstance(outcome, tuple):
            return seconds, ev.ActionFailed(command.call, command.request, *outcome, ms)
        return seconds, ev.ActionSucceeded(command.call, command.request, outcome, ms)

    def _outcome(self, params: Mapping[str, Any]) -> Outcome:
        refusal, usual = self._refusal_and_usual(params)
        if refusal:
            return refusal
        return self._chosen(params) if self._chosen else usual

    def _refusal_and_usual(self, params: Mapping[str, Any]) -> tuple[Outcome | None, Outcome]:
        """Why these parameters make no request, and what the samples answer; remembered, since thousands of calls ask alike."""
        key = tuple(params.items())
        try:
            found = self._known.get(key)
        except TypeError:
            return self._refusal(params), self._from_samples(params)
        if found is None:
            if len(self._known) > KEPT:
                self._known.clear()
            found = self._known[key] = self._refusal(params), self._from_samples(params)
        return found

    def _refusal(self, params: Mapping[str, Any]) -> Outcome | None:
        try:
            request_of(self._prepared, params)
        except BadValue as error:
            return ("bad_request", str(error))
        return None

    def _from_samples(self, params: Mapping[str, Any]) -> Outcome:
        asked = self._with_defaults(params)
        for title, parameters in self._parameters.items():
            if parameters == asked:
                return self._outcomes[title]
        return self._nobody()

    def _nobody(self) -> Outcome:
        """What is answered about somebody who is in no sample."""
        succeeding = [outcome for outcome in self._outcomes.values() if isinstance(outcome, dict)]
        fitting = [outcome for outcome in succeeding if outcome.get("count") == 0] or [o for o in succeeding if "count" not in o]
        return fitting[0] if fitting else self._not_told()

    def _not_told(self) -> Outcome:
        return ("status", f"no sample of {self.name} tells what is answered here")

    def _somebody(self) -> Outcome:
        """The first sample that succeeds and finds somebody."""
        for outcome in self._outcomes.values():
            if isinstance(outcome, dict) and outcome.get("count", 1) == 1:
                return outcome
        return self._not_told()

    def _over(self, base: Outcome, named: Mapping[str, Any]) -> Outcome:
        if not isinstance(base, dict):
            raise ValueError(f"{self.name}: there is no sample that succeeds, over which attributes could be laid; give a body")
        values = dict(base)
        for name, value in named.items():
            output = self._prepared.definition.response.get(name)
            if output is None:
                raise ValueError(f"{self.name}: there is no attribute {name!r}; there are: {', '.join(self._prepared.definition.response)}")
            try:
                values[name] = convert(value, output.type)
            except (WrongType, TooBig) as error:
                raise ValueError(f"{self.name}: {name}: {error}") from error
        return values

    def _choose(self, answer: Callable[[Mapping[str, Any]], Outcome]) -> ActionAnswers:
        self._chosen = answer
        return self

    def _choose_outcome(self, outcome: Outcome) -> ActionAnswers:
        return self._choose(lambda asked: outcome)

    def _title(self, title: str) -> str:
        if title not in self._samples:
            raise ValueError(f"{self.name}: there is no sample {title!r}; there are: {', '.join(self._samples)}")
        return title

    def _with_defaults(self, params: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._prepared.definition.parameters
        return {**{name: parameter.value for name, parameter in declared.items() if not parameter.required}, **params}

    def _of_sample(self, sample: Sample) -> Outcome:
        return self._extracted(sample.response.body.encode(), sample.response.status)

    def _extracted(self, body: bytes, status: int = 200) -> Outcome:
        try:
            return self._prepared.outcome(Answer(status, {}, body))
        except Failed as error:
            return (error.reason, error.detail)
