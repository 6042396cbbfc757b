"""Callbacks that run when a module has been imported, so that this package does not import it itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TypeAlias

from monlight._safety import never_raise

Callback: TypeAlias = Callable[[ModuleType], None]


def when_imported(name: str, callback: Callback) -> None:
    """Calls `callback` with the module, now if it has been imported, otherwise after its import. Never raises."""
    contained = never_raise(None)(callback)
    module = sys.modules.get(name)
    if module is not None:
        contained(module)
        return
    sys.meta_path.insert(0, _Finder(name, contained))


class _Finder(MetaPathFinder):
    """Finder that finds one module once, and adds a callback to its loader."""

    def __init__(self, name: str, callback: Callback) -> None:
        self._name = name
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._callback)
        return spec


class _Loader(Loader):
    """Loader that delegates to the module's own loader and then runs a callback."""

    def __init__(self, loader: Loader, callback: Callback) -> None:
        self._loader = loader
        self._callback = callback

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Other packages read the source or data of a module with its own loader.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._callback(module)
