"""Fields of named tuples and of instances of dataclasses, attrs and pydantic, read without running their code."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Any

# Attributes of a class that list its fields, of dataclasses, attrs, pydantic 2 and pydantic 1.
_FIELD_LISTS = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__", "__fields__")


def fields_of(value: Any) -> dict[str, Any] | None:
    """Returns the fields of a value, or None if its type does not declare any."""
    kind = type(value)
    if issubclass(kind, tuple):
        return dict(zip(kind._fields, tuple.__iter__(value), strict=False)) if hasattr(kind, "_fields") else None
    try:
        names = _field_names(kind)
        return None if names is None else _read(value, kind, names)
    except Exception:
        # Another package uses an attribute of the same name, or an attribute of the class raises.
        return None


def _field_names(kind: type) -> list[str] | None:
    for base in kind.__mro__:
        for attribute in _FIELD_LISTS:
            fields = vars(base).get(attribute)
            if fields is not None:
                listed = fields.values() if isinstance(fields, dict) else fields
                named = zip(fields, listed, strict=True) if isinstance(fields, dict) else ((f.name, f) for f in listed)
                return [name for name, field in named if getattr(field, "repr", True)]
    return None


def _read(value: Any, kind: type, names: list[str]) -> dict[str, Any]:
    """Reads fields from the instance's dictionary and slots. Properties and other descriptors are not called."""
    attributes = object.__getattribute__(value, "__dict__") if kind.__dictoffset__ else {}
    fields = {name: attributes[name] for name in names if name in attributes}
    for base in kind.__mro__:
        for name in names:
            slot = vars(base).get(name)
            if type(slot) is MemberDescriptorType and name not in fields:
                fields[name] = slot.__get__(value)
    return fields
