"""Pictures of flows: everything is in them, nothing lies on anything else, equal flows look equal; and the schema for editors."""

from __future__ import annotations

import json
import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.cli import app
from app.proving import read_flows
from app.publish.drawing import TALL, svg, text_width
from app.publish.layout import BEND, lay_out
from app.publish.meaning import Context
from app.publish.sketch import mermaid, outline, sketch
from tests.unit.centre import PROJECT

WRONG = Path(__file__).parent / "proofs"
FLOWS = {context.program.flow: context for project in (PROJECT, WRONG) for context in read_flows(project)}
SVG = "{http://www.w3.org/2000/svg}"
Area = tuple[float, float, float, float]


@pytest.mark.parametrize("name", FLOWS)
def test_every_step_and_every_exit_is_in_the_picture(name: str) -> None:
    context = FLOWS[name]
    boxes, arrows = sketch(context)
    assert set(context.program.steps) <= set(boxes)
    for step, node in context.program.steps.items():
        for exit_, to in node.exits.items():
            (arrow,) = [arrow for arrow in arrows if (arrow.source, arrow.target) == (step, to)]
            assert exit_ == "done" or exit_ in arrow.label.split(", ")
    drawn = ElementTree.fromstring(svg(context))
    assert {element.text for element in drawn.iter(f"{SVG}title")} == set(boxes)
    named = [element.text for element in drawn.iter(f"{SVG}text") if "name" in (element.get("class") or "").split()]
    assert sorted(filter(None, named)) == sorted(arrow.label for arrow in arrows if arrow.label)
    heads = sum(1 for path in drawn.iter(f"{SVG}path") if path.get("marker-end"))
    assert heads >= len({arrow.target for arrow in arrows})


@pytest.mark.parametrize("name", FLOWS)
def test_no_box_and_no_name_lies_on_another(name: str) -> None:
    drawn = ElementTree.fromstring(svg(FLOWS[name]))
    boxes = [_area(rect) for rect in drawn.iter(f"{SVG}rect") if rect.get("height") == f"{TALL:.0f}"]
    names = [_written(text) for text in drawn.iter(f"{SVG}text") if "name" in (text.get("class") or "").split()]
    assert len(boxes) == len(sketch(FLOWS[name])[0])
    assert [pair for pair in combinations([*boxes, *names], 2) if _overlap(*pair)] == []
    width, height = (float(drawn.get(side, "0")) for side in ("width", "height"))
    assert all(x >= 0 and y >= 0 and right <= width and bottom <= height for x, y, right, bottom in [*boxes, *names])


def _area(rect: ElementTree.Element) -> Area:
    x, y, width, height = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _written(text: ElementTree.Element) -> Area:
    x, y, width = float(text.get("x", "0")), float(text.get("y", "0")), text_width(text.text or "", 11)
    left = x - width / 2 if "middle" in (text.get("class") or "").split() else x
    return left, y - 9, left + width, y + 2


def _overlap(a: Area, b: Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_what_cannot_be_reached_is_grey_and_what_fails_is_dashed() -> None:
    boxes, arrows = sketch(FLOWS["unreachable"])
    assert {name for name, box in boxes.items() if box.group == "lost"} == {"left_over"}
    assert "(no call comes here)" in outline(FLOWS["unreachable"])
    (failed,) = [arrow for arrow in sketch(FLOWS["repeated"])[1] if arrow.failure]
    assert (failed.source, failed.target, failed.label) == ("order", "sorry", "failed")
    assert not any(arrow.failure for arrow in arrows)


def test_the_same_flow_gives_the_same_picture() -> None:
    again = {context.program.flow: context for context in read_flows(PROJECT)}
    assert svg(again["order-status"]) == svg(FLOWS["order-status"])


def test_names_from_a_file_cannot_break_the_picture() -> None:
    context = FLOWS["order-status"]
    program = context.program.model_copy(update={"title": '<script>alert("1")</script>', "dnis": ('"]<&',)})
    context.flow.program, kept = program, context.flow.program
    try:
        tampered = Context(context.flow, {})
        drawn = ElementTree.fromstring(svg(tampered))
        assert not list(drawn.iter(f"{SVG}script"))
        assert "#quot;]&lt;&amp;" in mermaid(tampered)
    finally:
        context.flow.program = kept


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(20, 300), min_size=n, max_size=n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=16),
        )
    )
)
def test_boxes_of_any_graph_stand_apart_and_lines_pass_every_layer_once(drawn: tuple[list[float], list[tuple[int, int]]]) -> None:
    widths = {f"b{i}": width for i, width in enumerate(drawn[0])}
    links = [(f"b{a}", f"b{b}") for a, b in drawn[1]]
    layout = lay_out(widths, links, gap=10)
    assert {(line.source, line.target) for line in layout.lines} == {link for link in links if link[0] != link[1]}
    rows: dict[int, set[tuple[float, float]]] = {}
    for name, width in widths.items():
        rows.setdefault(layout.layer[name], set()).add((layout.middle[name], width))
    for line in layout.lines:
        first, last = layout.layer[line.source], layout.layer[line.target]
        assert first > last if line.back else first < last
        step = -1 if line.back else 1
        assert [layer for _, layer in line.bends] == list(range(first + step, last, step))
        for x, layer in line.bends:
            rows.setdefault(layer, set()).add((x, BEND))
    for row in rows.values():
        for (x, width), (next_x, next_width) in pairwise(sorted(row)):
            assert next_x - x >= (width + next_width) / 2 - 1e-6
    assert all(x - width / 2 >= -1e-6 for row in rows.values() for x, width in row)


# ---- the commands -------------------------------------------------------------------------------------------------------------


def test_a_flow_is_shown_by_its_name_or_its_file(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["flow", "show", "order-status"])
    assert "premium_check  switch\n    premium -> premium_announcement\n" in shown.output
    file = tmp_path / "flow.svg"
    drawn = CliRunner().invoke(app, ["flow", "show", str(WRONG / "flows" / "repeated.yaml"), "--svg", str(file)])
    assert drawn.exit_code == 0
    assert file.read_text() == svg(FLOWS["repeated"])
    text = CliRunner().invoke(app, ["flow", "show", "order-status", "--mermaid"])
    assert text.output.startswith("flowchart TD\n")
    nobody = CliRunner().invoke(app, ["flow", "show", "order-statu"])
    assert nobody.exit_code == 1
    assert "there is no flow 'order-statu' (did you mean 'order-status'?)" in nobody.output


# ---- the schema ---------------------------------------------------------------------------------------------------------------


def _schema(of: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["flow", "schema", "--of", of])
    assert done.exit_code == 0, done.output
    made: dict[str, Any] = json.loads(done.output)
    return made


TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def refused(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    """What a JSON Schema (the part of it that we use) has against a value."""
    if "$ref" in schema:
        return refused(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            fit = sum(not refused(value, one, root) for one in schema[several])
            return [] if fit == 1 or (fit and several == "anyOf") else [f"{value!r} fits {fit} of {several}"]
    if "const" in schema or "enum" in schema:
        return [] if value in schema.get("enum", [schema.get("const")]) else [f"{value!r} is none of the words"]
    kinds = schema.get("type", list(TYPES))
    if not isinstance(value, tuple(t for kind in ([kinds] if isinstance(kinds, str) else kinds) for t in TYPES[kind])):
        return [f"{value!r} is no {kinds}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return [f"{value!r} does not look like {schema['pattern']}"]
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return [f"{value!r} is out of range"]
    if isinstance(value, list):
        return [what for item in value for what in refused(item, schema.get("items", {}), root)]
    if not isinstance(value, dict):
        return []
    out = [f"{key} is missing" for key in schema.get("required", []) if key not in value]
    for key, item in value.items():
        known = schema.get("properties", {}).get(key)
        known = known or next((s for pattern, s in schema.get("patternProperties", {}).items() if re.search(pattern, str(key))), None)
        known = schema.get("additionalProperties", {}) if known is None else known
        out += [f"{key} is unknown"] if known is False else refused(item, known if isinstance(known, dict) else {}, root)
    return out


@pytest.mark.parametrize(("of", "file"), [("flow", "flows/order-status.yaml"), ("centre", "centre.yaml"), ("actions", "actions/crm.yaml")])
def test_the_files_that_ship_fit_their_schema(of: str, file: str) -> None:
    schema = _schema(of)
    assert refused(yaml.safe_load((PROJECT / file).read_text()), schema, schema) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("exits: {done: premium_check}", "exits: {dune: premium_check}"),
        ("exits: {done: premium_check}", "exits: {}"),
        ("do: lookup", "do: look_up"),
        ("length: 7", "lenght: 7"),
        ("length: 7", "length: 70"),
        ("start: recognise", "begin: recognise"),
        ("place: front", "place: first"),
    ],
)
def test_mistakes_that_an_editor_can_see_do_not_fit_the_schema(right: str, wrong: str) -> None:
    schema = _schema("flow")
    text = (PROJECT / "flows" / "order-status.yaml").read_text()
    assert right in text
    assert refused(yaml.safe_load(text.replace(right, wrong, 1)), schema, schema)


def test_the_schema_explains_the_steps_in_the_words_of_the_language() -> None:
    schema = _schema("flow")
    assert schema["$defs"]["Collect"]["description"].startswith("Collect keys under a name.")
    assert "outputs" not in schema["properties"]
