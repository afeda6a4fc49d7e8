"""torch's compiler stays unloaded where nothing is compiled: 2 s of a process's start, 160 MB of its memory.

torch's optimizers import it in every step, only to tell it to look away (torch 2.15, torch/optim/optimizer.py
and torch/_compile.py). A stand-in answers that. Whoever wants more of the compiler, torch.compile first of
all, gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

COMPILER = "torch._dynamo"

F = TypeVar("F", bound=Callable[..., Any])


def leave_compiler_unloaded() -> None:
    """Until somebody needs it. Where it is loaded already, nothing changes."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = _StandIn(COMPILER)


class _StandIn(ModuleType):
    """What optimizers ask of the compiler, as it answers where nothing is being compiled."""

    @staticmethod
    def graph_break() -> None:
        """There is no graph."""

    @staticmethod
    def disable(function: F, recursive: bool = True, *, wrapping: bool = True) -> F:
        """Nothing compiles `function`."""
        return function

    def __getattr__(self, name: str) -> Any:
        if (
            name.startswith("__") and name != "__path__"
        ):  # of which modules are asked while others look around
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:  # __path__: a part of it is about to be imported
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)
