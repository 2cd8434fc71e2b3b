"""Conditions: CEL, checked against declared types when a flow is loaded, evaluated against a call's flat variables.

Variables are declared and given by their dotted names (`contact.premium`), so that a misspelt one is an error at load.
An evaluation that ends in an error raises `ConditionFailed`; it is never false. CEL's clock and zones are not offered.
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


_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")


class ConditionFailed(Exception):
    """A condition whose evaluation ended in an error, such as a variable that is not set."""


class Conditions:
    """The named conditions of one program, compiled."""

    def __init__(self, expressions: Mapping[str, str], types: Mapping[str, str]) -> None:
        env = cel.NewEnv(variables={name: _TYPES[kind] for name, kind in types.items()})
        self._compiled: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, text in expressions.items():
            try:
                self._compiled[name] = _compile(env, text, types)
            except ValueError as error:
                problems[name] = f"{text!r}: {error}"
        if problems:
            raise BadCondition(problems)
        self._asks = {name: tuple(variable for variable in types if variable in text) for name, text in expressions.items()}

    def test(self, name: str, variables: Mapping[str, Any]) -> bool:
        """Whether the named condition holds; raises `ConditionFailed` where it cannot be told.

        It is handed only the variables that it can name. What other systems wrote, `ivr.<name>`, is one map.
        """
        data = {asked: variables[asked] for asked in self._asks[name] if asked in variables}
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
        expression = env.compile(text)
    except Exception as error:
        reason = str(error).replace("INVALID_ARGUMENT: ERROR: <input>:", "").split("\n")[0].removesuffix(" (in container '')")
        unknown = _UNDECLARED.search(reason)
        raise ValueError(reason + (likely(unknown[1], types) if unknown else "")) from None
    if expression.return_type() != cel.Type.BOOL:
        raise ValueError(f"gives {expression.return_type().name()}, not true or false")
    return expression
