"""Trying actions out: one with given parameters, one against its samples, or all of them against the live systems."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded, Event

from .credentials import Credentials
from .guard import Origin
from .method import ActionDef, finder_of
from .runner import Actions
from .samples import FakeSystem, check_samples, sample_parameters
from .sensitive import MASK
from .values import TooBig, WrongType, from_text

NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one try, in `ms`: `outcome` is `ok`, `not asked` or why it failed, `wrong` what a sample expected instead."""

    action: str
    title: str
    outcome: str
    detail: str = ""
    ms: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    foreseen: bool = False

    @property
    def well(self) -> bool:
        """Whether nothing is wrong: it succeeded, or failed as its sample says."""
        return not self.wrong and (self.foreseen or self.outcome in ("ok", NOT_ASKED))


def spelled(definition: ActionDef, texts: Mapping[str, str]) -> dict[str, Any]:
    """Parameters given as text, typed; raises `ValueError` that names the parameter."""
    values = {}
    for name, text in texts.items():
        if name not in definition.parameters:
            raise ValueError(f"there is no parameter {name!r}; there are: {', '.join(definition.parameters) or 'none'}")
        try:
            values[name] = from_text(text, definition.parameters[name].type)
        except (WrongType, TooBig) as error:
            raise ValueError(f"{name}: {error}") from None
    return values


def shown(definition: ActionDef, values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes or parameters without what is sensitive."""
    return {name: MASK if name in definition.run.sensitive else value for name, value in values.items()}


async def try_live(
    definitions: Mapping[str, ActionDef],
    name: str,
    params: Mapping[str, Any],
    systems: Mapping[str, Credentials],
    origins: Iterable[Origin],
    title: str = "live",
) -> Tried:
    """One action, asked of the live system; raises `ValueError` where the settings lack something."""
    definition = definitions[name]
    answers: asyncio.Queue[Event] = asyncio.Queue()
    actions = Actions(_with_finder(definitions, name), systems, answers.put_nowait, origins)
    try:
        actions.carry_out(StartAction("try", "try-rq1", name, dict(params), definition.run.budget))
        return _tried(definition, title, await answers.get())
    finally:
        await actions.close()


async def try_samples(definitions: Mapping[str, ActionDef], name: str) -> list[Tried]:
    """Each sample of one action, over a real socket where it goes over HTTP."""
    definition = definitions[name]
    wrong = _by_title(name, check_samples({name: definition}))
    found = []
    async with FakeSystem(definitions) as system:
        for title, sample in definition.samples.items():
            if definition.request.kind in ("sql", "csv"):
                found.append(
                    Tried(name, title, sample.fails or "ok", "read from the sample", wrong=tuple(wrong.get(title, ())), foreseen=True)
                )
                continue
            plain = {**definitions, name: definition.model_copy(update={"run": definition.run.model_copy(update={"retry": 0})})}
            tried = await try_live(plain, name, sample_parameters(definition, title), system.credentials, system.origins, title)
            expected = tried.outcome == (sample.fails or "ok")
            problems = wrong.get(title, []) if expected else [f"expected {sample.fails or 'success'}", *wrong.get(title, [])]
            found.append(Tried(name, title, tried.outcome, tried.detail, tried.ms, tried.values, tuple(problems), expected))
    return found


async def health(definitions: Mapping[str, ActionDef], systems: Mapping[str, Credentials], origins: Iterable[Origin]) -> list[Tried]:
    """Every action: those that only read are asked with the parameters of their first good sample, the others are only looked at."""
    origins = list(origins)
    return list(await asyncio.gather(*(_healthy(definitions, name, systems, origins) for name in definitions)))


async def _healthy(definitions: Mapping[str, ActionDef], name: str, systems: Mapping[str, Credentials], origins: list[Origin]) -> Tried:
    definition = definitions[name]
    good = next((title for title, sample in definition.samples.items() if not sample.fails), None)
    try:
        if definition.reads and good is not None:
            return await try_live(definitions, name, sample_parameters(definition, good), systems, origins, good)
        actions = Actions(_with_finder(definitions, name), systems, lambda event: None, origins)
        barred = actions.health()[name]["barred"]
        await actions.close()
    except ValueError as error:
        return Tried(name, "", "settings", str(error).removeprefix(f"{name}: "))
    if barred:
        return Tried(name, "", "guard", barred)
    return Tried(name, "", NOT_ASKED, "it writes" if not definition.reads else "no sample succeeds")


def _with_finder(definitions: Mapping[str, ActionDef], name: str) -> dict[str, ActionDef]:
    finder = finder_of(definitions[name])
    return {each: definitions[each] for each in (name, finder) if each in definitions}


def _tried(definition: ActionDef, title: str, event: Event) -> Tried:
    if isinstance(event, ActionSucceeded):
        return Tried(definition.name, title, "ok", "", event.ms, shown(definition, event.values))
    assert isinstance(event, ActionFailed)
    return Tried(definition.name, title, event.reason, event.detail, event.ms)


def _by_title(name: str, problems: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in problems:
        title, _, what = problem.removeprefix(f"{name}: sample '").partition("': ")
        found.setdefault(title, []).append(what)
    return found
