"""The forms that JSON members must have, as a list of what is wrong with an object."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

__all__ = ["Forms", "is_count", "is_object", "is_text", "wrong_members"]

Forms = Mapping[str, Callable[[Any], bool]]
"""The members of an object, and what each must be."""


def is_text(value: Any) -> TypeGuard[str]:
    """A string."""
    return isinstance(value, str)


def is_count(value: Any) -> TypeGuard[int]:
    """A whole number, as JSON writes it."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """A JSON object."""
    return isinstance(value, dict)


_NAMES: dict[Any, str] = {is_text: "a string", is_count: "a whole number", is_object: "an object"}


def wrong_members(value: Mapping[str, Any], required: Forms, optional: Forms) -> Iterator[str]:
    """What is missing, and what has another type than its form says. `null` is the same as absent."""
    for name, form in required.items():
        if value.get(name) is None:
            yield f"{name} is missing"
        elif not form(value[name]):
            yield f"{name} is not {_NAMES[form]}"
    for name, form in optional.items():
        if value.get(name) is not None and not form(value[name]):
            yield f"{name} is not {_NAMES[form]}"
