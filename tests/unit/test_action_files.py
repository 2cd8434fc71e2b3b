"""Action files: what they say is read as written, and every mistake is told with its file and line."""

from __future__ import annotations

from pathlib import Path

import jmespath
import pytest

from app.actions.credentials import Credentials
from app.actions.extract import Malformed, compile_path, extract, parse
from app.actions.files import ActionFileError, load_actions
from app.actions.prepare import Prepared
from app.actions.samples import check_samples
from app.actions.templates import BadTemplate, BadValue, address, body, text
from app.actions.values import TooBig, WrongType, convert, from_text

FILE = """\
connector: shop
methods:
  order:
    request:
      method: GET
      url: "{{ base_url }}/orders/{{ number }}"
    parameters:
      number: {type: string}
    response:
      status: {path: status, type: string}
      total: {path: total, type: number, default: "0"}
    auth: {scheme: bearer, credentials: shop}
    samples:
      shipped:
        parameters: {number: "0301"}
        request: GET /orders/0301
        response: {body: '{"status": "shipped", "total": 5}'}
        expect: {status: shipped, total: "5"}
    run: {budget: 1.5}
"""


@pytest.fixture
def load(tmp_path):
    def write(content: str, name: str = "shop.yaml"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return load_actions(tmp_path)

    return write


@pytest.fixture
def problems(load):
    def failing(old: str, new: str) -> list[str]:
        assert old in FILE
        with pytest.raises(ActionFileError) as caught:
            load(FILE.replace(old, new, 1))
        return [problem.split("shop.yaml:")[1] for problem in caught.value.problems]

    return failing


def test_a_file_becomes_actions_with_typed_inputs_and_outputs(load):
    definition = load(FILE)["shop.order"]
    assert definition.inputs == {"number": "string"}
    assert definition.outputs == {"status": "string", "total": "double"}
    assert definition.run.budget == 1.5
    assert check_samples({"shop.order": definition}) == []


def test_the_shipped_files_load_and_name_what_the_hotline_needs():
    definitions = load_actions(Path(__file__).parents[2] / "app" / "demo" / "actions")
    assert set(definitions) == {"crm.contact_by_phone", "crm.contact_by_reference", "crm.order_link"}
    outputs = definitions["crm.contact_by_phone"].outputs
    assert outputs == definitions["crm.contact_by_reference"].outputs
    assert (outputs["found"], outputs["count"], outputs["skills"], outputs["premium"]) == ("bool", "int", "map", "bool")
    assert definitions["crm.order_link"].outputs == {"url": "string", "token": "string"}


@pytest.mark.parametrize("part", ["request", "parameters", "response", "auth", "samples"])
def test_each_of_the_five_parts_is_required(load, part):
    lines = FILE.splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if line.startswith(f"    {part}:"))
    last = next((n for n in range(first + 1, len(lines)) if not lines[n].startswith("      ")), len(lines))
    with pytest.raises(ActionFileError) as caught:
        load("".join(lines[:first] + lines[last:]))
    assert [p.split("shop.yaml:")[1] for p in caught.value.problems] == [f"3: methods.order.{part}: this part is missing"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("type: number", "type: float", "11: methods.order.response.total.type: expected one of: string, boolean"),
        ("path: status", "path: 'status['", "10: methods.order.response.status.path: expected a JMESPath, found 'status['"),
        ('default: "0"', 'default: "none"', "11: methods.order.response.total: number expected, written as JSON, found 'none'"),
        ("method: GET", "method: FETCH", "5: methods.order.request.method: Input should be 'GET', 'HEAD'"),
        (
            "{{ number }}",
            "{{ nummer }}",
            "3: methods.order: request.url: 'nummer' is not a declared parameter; there are: call_id, number,",
        ),
        ("{{ number }}", "{{ number", "3: methods.order: request.url: not a template"),
        ("{{ number }}", "{% for n in number %}{{ n }}{% endfor %}", "3: methods.order: request.url: only {{ expressions }} may stand"),
        ("{{ base_url }}/orders", "https://{{ number }}", "6: methods.order.request.url: expected a url that begins with {{ base_url }}"),
        ("/orders/", "/orders?x=", "6: methods.order.request.url: expected a url without ? and #"),
        (", credentials: shop", "", "12: methods.order.auth: expected the name of the credentials that bearer needs"),
        ("scheme: bearer", "scheme: magic", "12: methods.order.auth.scheme: Input should be 'none', 'basic', 'bearer', 'api_key', 'oauth2"),
        ('{number: "0301"}', "{}", "3: methods.order: samples.shipped.parameters: number is required"),
        ('{number: "0301"}', '{nr: "0301"}', "3: methods.order: samples.shipped.parameters.nr: no such parameter is declared"),
        ('total: "5"', 'sum: "5"', "3: methods.order: samples.shipped.expect.sum: no such attribute is declared"),
        ('total: "5"', 'total: "x"', "3: methods.order: number expected, written as JSON, found 'x'"),
        ("budget: 1.5", "budget: 9", "19: methods.order.run.budget: Input should be less than or equal to 8, found '9'"),
        ("budget: 1.5", "timeout: 9", "19: methods.order.run.timeout: no such key is known here"),
        ("connector: shop", "connector: Shop-1", "1: connector: expected a name of lower case letters"),
        ("connector: shop", "connector: shop\nconnector: shop", "2: the key 'connector' is given twice"),
        ("connector: shop", "connector: [shop", "2: not YAML"),
        ("connector: shop", "connector: &a [*a]", "1: too large or nested too deeply"),
        ("connector: shop", '"": shop', "1: a key must be a plain word"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_was_expected(problems, old, new, expected):
    assert problems(old, new)[0].startswith(expected)


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(FILE.replace("type: number", "type: float"))
    (tmp_path / "b.yaml").write_text("")
    (tmp_path / "c.yaml").write_bytes(b"connector: \xff")
    with pytest.raises(ActionFileError) as caught:
        load_actions(tmp_path)
    assert [problem.removeprefix(f"{tmp_path}/")[:9] for problem in caught.value.problems] == ["a.yaml:11", "b.yaml:1:", "c.yaml:1:"]


def test_one_method_in_two_files_is_a_mistake(load):
    load(FILE)
    with pytest.raises(ActionFileError, match=r"shop2.yaml:1: shop.order: the method is described in another file"):
        load(FILE, "shop2.yaml")


def test_a_post_that_may_act_twice_cannot_be_repeated(load):
    post = FILE.replace("method: GET", "method: POST").replace("GET /orders", "POST /orders").replace("budget: 1.5", "retry: 1")
    with pytest.raises(ActionFileError, match=r"shop.yaml:3: methods.order: run.retry: expected run.once key, upsert, find"):
        load(post)
    assert load(post.replace("retry: 1", "retry: 1, once: upsert"))["shop.order"].run.retry == 1


def test_a_sample_that_does_not_hold_is_told(load):
    definitions = load(FILE.replace("GET /orders/0301", "GET /orders/301").replace("status: shipped,", "status: lost,"))
    assert check_samples(definitions) == [
        "shop.order: sample 'shipped': expected the request 'GET /orders/301', found 'GET /orders/0301'",
        "shop.order: sample 'shipped': status: expected 'lost', found 'shipped'",
    ]


# ---- templates ---------------------------------------------------------------------------------------------------------


def test_a_value_is_never_a_template_and_never_leaves_its_place_in_an_address():
    make = address("/orders/{{ number }}/links", {"number"})
    assert make({"number": "{{ 7 * 7 }}"}) == "/orders/%7B%7B%207%20%2A%207%20%7D%7D/links"
    assert make({"number": "a/../b?c#d@e:f"}) == "/orders/a%2F..%2Fb%3Fc%23d%40e%3Af/links"
    for bad in ("", ".", "..", None, [1], {"a": 1}):
        with pytest.raises(BadValue):
            make({"number": bad})


def test_a_body_keeps_types_and_escapes_nothing_by_hand():
    make = body({"name": "{{ name }}", "note": "for {{ name }}", "n": "{{ n }}", "list": ["{{ flag }}", "x"]}, {"name", "n", "flag"})
    quoted = 'A"b'
    assert make({"name": quoted, "n": 3, "flag": True}) == {"name": quoted, "note": f"for {quoted}", "n": 3, "list": [True, "x"]}


@pytest.mark.parametrize("source", ["{{ x.__class__.__mro__ }}", "{{ x | attr('__class__') }}", "{{ 1 / 0 }}", "{{ x.nothing }}"])
def test_an_expression_that_goes_too_far_fails_and_shows_nothing(source):
    with pytest.raises(BadValue):
        text(source, {"x"})({"x": "value"})


def test_a_template_with_names_that_do_not_exist_is_refused_when_it_is_read():
    with pytest.raises(BadTemplate, match="'range' is not a declared parameter"):
        text("{{ range(10) }}", {"x"})


# ---- values and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("x", "string", "x"),
        (True, "boolean", True),
        (3, "integer", 3),
        (3.0, "integer", 3),
        (3, "number", 3.0),
        ({"a": 1}, "object", {"a": 1}),
        ([1, 2], "list of integer", [1, 2]),
        ([], "list of string", []),
    ],
)
def test_a_value_of_its_type(value, kind, expected):
    found = convert(value, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "string"),
        (None, "string"),
        (0, "boolean"),
        ("true", "boolean"),
        (True, "integer"),
        ("3", "integer"),
        (3.5, "integer"),
        (2**63, "integer"),
        (True, "number"),
        (float("nan"), "number"),
        ([], "object"),
        ({}, "list of string"),
        (["a", 1], "list of string"),
    ],
)
def test_a_value_of_another_type(value, kind):
    with pytest.raises(WrongType):
        convert(value, kind)


def test_a_value_too_large_for_a_variable():
    with pytest.raises(TooBig):
        convert("x" * 4097, "string")
    with pytest.raises(TooBig):
        convert({"x": ["y" * 1000] * 20}, "object")


def test_text_of_a_file_as_its_type():
    assert from_text("0301", "string") == "0301"
    assert from_text('["a"]', "list of string") == ["a"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", 1),
        ("b[0].c", 2),
        ("b[-1].c", 3),
        ("b[7].c", None),
        ("b.c", None),
        ("a.b", None),
        ("b[*].c", [2, 3]),
        ("length(b)", 2),
        ("a == `1`", True),
        ('"odd key"', 4),
    ],
)
def test_a_plain_path_finds_what_the_interpreter_finds(path, expected):
    document = {"a": 1, "b": [{"c": 2}, {"c": 3}], "odd key": 4}
    assert compile_path(path)(document) == jmespath.search(path, document) == expected


def test_depth_is_counted_in_the_document_not_in_its_strings():
    assert parse(b'"' + b"[" * 500 + b'"') == "[" * 500
    assert parse(b"[" * 32 + b"]" * 32)
    with pytest.raises(Malformed):
        parse(b"[" * 33 + b"]" * 33)


def test_an_action_without_attributes_needs_no_body():
    assert extract(b"", ()) == {}


# ---- credentials -------------------------------------------------------------------------------------------------------


def test_a_secret_may_come_from_a_file_and_is_never_shown(tmp_path, load):
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    access = Credentials(base_url="https://shop.example/api/", token_file=secret)
    request = Prepared(load(FILE)["shop.order"], {"shop": access}).request({"number": "0301"})
    assert (str(request.url), request.headers["Authorization"]) == ("https://shop.example/api/orders/0301", "Bearer s3cret")
    assert "s3cret" not in repr(access)


@pytest.mark.parametrize(
    "given",
    [
        {"token": "s3cret", "token_file": "/nowhere"},
        {"token_file": "/nowhere"},
        {"base_url": "https://user:s3cret@shop.example"},
        {"base_url": "ftp://shop.example"},
        {"tokn": "s3cret"},
    ],
)
def test_credentials_that_are_none_are_refused_without_showing_them(given):
    with pytest.raises(ValueError) as caught:
        Credentials(**given)
    assert "s3cret" not in str(caught.value)


def test_basic_credentials_make_one_header():
    assert Credentials(username="callwright", password="s3cret").header("basic") == "Basic Y2FsbHdyaWdodDpzM2NyZXQ="
