"""The simulator's answers against the production adapter, which asks the same samples over a real socket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.actions.files import load_actions
from app.actions.prepare import Prepared
from app.actions.runner import Actions
from app.actions.samples import FakeSystem, sample_outputs, sample_parameters
from app.core.commands import StartAction
from app.testing.answers import ActionAnswers
from tests.contract.doors import Posted
from tests.contract.test_action_kinds import FILE

ACTIONS = Path(__file__).parents[2] / "app" / "demo" / "actions"


async def test_a_simulated_system_answers_as_the_same_samples_do_over_a_real_socket():
    definitions = load_actions(ACTIONS)
    posted = Posted()
    async with FakeSystem(definitions) as system:
        actions = Actions(definitions, system.credentials, posted, system.origins)
        for name, definition in definitions.items():
            simulated = ActionAnswers(Prepared(definition, system.credentials))
            for title in definition.samples:
                command = StartAction("c1", f"c1-{name}-{title}", name, sample_parameters(definition, title))
                actions.carry_out(command)
                real, (_, virtual) = await posted.event(), simulated.answer(command, "")
                assert (type(real), *as_told(real)) == (type(virtual), *as_told(virtual))
        await actions.close()


def as_told(event):
    """All of an event but the time that it took, and the wording of a failure."""
    plain = replace(event, ms=0)
    return plain.request, getattr(plain, "values", None), getattr(plain, "reason", None)


async def test_parameters_that_make_no_request_are_refused_alike():
    definitions = load_actions(ACTIONS)
    posted = Posted()
    async with FakeSystem(definitions) as system:
        actions = Actions(definitions, system.credentials, posted, system.origins)
        for params in ({"phone": ""}, {}, {"phone": "1", "more": "2"}, {"phone": 3}):
            command = StartAction("c1", f"c1-{len(params)}-{params}", "crm.contact_by_phone", params)
            actions.carry_out(command)
            real, (_, virtual) = (
                await posted.event(),
                ActionAnswers(Prepared(definitions[command.action], system.credentials)).answer(command, ""),
            )
            assert replace(real, ms=0) == replace(virtual, ms=0)
        await actions.close()


async def test_actions_of_every_kind_are_simulated_by_their_samples(tmp_path):
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "legacy.yaml").write_text(FILE)
    definitions = load_actions(tmp_path / "actions")
    async with FakeSystem(definitions) as system:
        for name, definition in definitions.items():
            simulated = ActionAnswers(Prepared(definition, system.credentials))
            for title, sample in definition.samples.items():
                _, event = simulated.answer(StartAction("c1", title, name, sample_parameters(definition, title)), "")
                assert getattr(event, "reason", "") == sample.fails
                assert sample.fails or event.values == sample_outputs(definition, title)
