"""Conditions: CEL, checked against declared types when a flow is loaded, evaluated against a call's flat variables.

Variables are declared and given by their dotted names (`contact.premium`), so that a misspelt one is an error at load.
An evaluation that ends in an error raises `ConditionFailed`; it is never false. CEL's clock and zones are not offered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cel_expr_python import cel

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
    """A condition that cannot be used: wrong syntax, unknown name, wrong types, or not true-or-false."""


class ConditionFailed(Exception):
    """A condition whose evaluation ended in an error, such as a variable that is not set."""


class Conditions:
    """The named conditions of one program, compiled."""

    def __init__(self, expressions: Mapping[str, str], types: Mapping[str, str]) -> None:
        env = cel.NewEnv(variables={name: _TYPES[kind] for name, kind in types.items()})
        self._compiled = {name: _compile(env, name, text) for name, text in expressions.items()}

    def test(self, name: str, variables: Mapping[str, Any]) -> bool:
        """Whether the named condition holds; raises `ConditionFailed` where it cannot be told."""
        try:
            value = self._compiled[name].eval(data=variables).plain_value()
        except Exception as error:
            raise ConditionFailed(f"{name}: {str(error)[:200]}") from None
        if value is True or value is False:
            return bool(value)
        raise ConditionFailed(f"{name}: {str(value)[:200]}")


def _compile(env: Any, name: str, text: str) -> Any:
    if _CLOCK.search(text):
        raise BadCondition(f"condition {name}: CEL's own clock and calendar cannot be used")
    try:
        expression = env.compile(text)
    except Exception as error:
        reason = str(error).replace("INVALID_ARGUMENT: ERROR: <input>:", "").split("\n")[0]
        raise BadCondition(f"condition {name}: {text!r}: {reason}") from None
    if expression.return_type() != cel.Type.BOOL:
        raise BadCondition(f"condition {name}: {text!r} gives {expression.return_type().name()}, not true or false")
    return expression
