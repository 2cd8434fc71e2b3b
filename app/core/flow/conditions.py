"""Conditions: CEL, checked against declared types when a flow is loaded, evaluated against a call's flat variables.

Variables are declared and given by their dotted names (`contact.premium`), so that a misspelt one is an error at load.
An evaluation that ends in an error raises `ConditionFailed`; it is never false. CEL's clock and zones are not offered.

What other systems write has no declared type and may not be there, so ask for that first: `has(ivr.email)` or `"email" in ivr` says
whether it is set, `has(ivr.premium) && ivr.premium` whether it is true. `has` asks it of every other variable too: `has(contact.email)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cel_expr_python import cel

from app.core.flow.words import likely

_TYPES = {
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    "list": cel.Type.List(cel.Type.DYN),
}
_CLOCK = re.compile(
    r"\b(timestamp|getHours|getMinutes|getSeconds|getDate|getDayOfWeek|getDayOfMonth|getDayOfYear|getFullYear|getMonth)\s*\("
)


class BadCondition(ValueError):
    """Conditions that cannot be used: wrong syntax, unknown name, wrong types, or not true-or-false. `problems`: by name, what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"condition {name}: {what}" for name, what in problems.items()))
        self.problems = dict(problems)


_STRING_OR_HAS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\bhas\(\s*(?!ivr\.)([a-z][a-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*)\s*\)""")
_IS_SET = "is_set."
"""What stands before the name of a variable in the name of the one that says whether it is set."""
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")


class ConditionFailed(Exception):
    """A condition whose evaluation ended in an error, such as a variable that is not set."""


class Conditions:
    """The named conditions of one program, compiled."""

    def __init__(self, expressions: Mapping[str, str], types: Mapping[str, str]) -> None:
        declared = {name: _TYPES[kind] for name, kind in types.items()}
        env = cel.NewEnv(variables={**declared, **{_IS_SET + name: cel.Type.BOOL for name in types}})
        self._compiled: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, text in expressions.items():
            try:
                self._compiled[name] = _compile(env, text, types)
            except ValueError as error:
                problems[name] = f"{text!r}: {error}"
        if problems:
            raise BadCondition(problems)
        self._has = {name: tuple(asked for asked in _STRING_OR_HAS.findall(text) if asked) for name, text in expressions.items()}
        self._asks = {name: tuple(variable for variable in types if variable in text) for name, text in expressions.items()}

    def test(self, name: str, variables: Mapping[str, Any]) -> bool:
        """Whether the named condition holds; raises `ConditionFailed` where it cannot be told.

        It is handed only the variables that it can name. What other systems wrote, `ivr.<name>`, is one map.
        """
        data = {asked: variables[asked] for asked in self._asks[name] if asked in variables}
        for asked in self._has[name]:
            data[_IS_SET + asked] = asked in variables
        if "ivr" in self._asks[name]:
            data["ivr"] = {key[4:]: value for key, value in variables.items() if key.startswith("ivr.")}
        try:
            value = self._compiled[name].eval(data=data).plain_value()
        except Exception as error:
            raise ConditionFailed(f"{name}: {str(error)[:200]}") from None
        if value is True or value is False:
            return bool(value)
        raise ConditionFailed(f"{name}: {str(value)[:200]}")


def _compile(env: Any, text: str, types: Mapping[str, str]) -> Any:
    if _CLOCK.search(text):
        raise ValueError("CEL's own clock and calendar cannot be used")
    try:
        expression = env.compile(_STRING_OR_HAS.sub(lambda found: _IS_SET + found[1] if found[1] else found[0], text))
    except Exception as error:
        reason = (
            str(error)
            .replace(_IS_SET, "")
            .replace("INVALID_ARGUMENT: ERROR: <input>:", "")
            .split("\n")[0]
            .removesuffix(" (in container '')")
        )
        unknown = _UNDECLARED.search(reason)
        raise ValueError(reason + (likely(unknown[1], types) if unknown else "")) from None
    if expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise ValueError(f"gives {expression.return_type().name()}, not true or false")
    return expression
