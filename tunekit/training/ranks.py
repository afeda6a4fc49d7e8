"""The processes that train one model together, as each of them sees it.

In: small tensors and plain objects of this process. Out: what all of them make together. Alone, everything
is what it was. Knows nothing of how the processes were started; torch.distributed is up where world > 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tunekit.errors import TunekitError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's number among `world` of them."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of everybody's `values`, which must be of one shape. Not differentiated."""
        if self.world == 1:
            return values
        summed = values.detach().clone()
        dist.all_reduce(summed)
        return summed

    def share(self, thing: T | None) -> T:
        """The first process's `thing`; the others may give None."""
        if self.world > 1:
            carried = [thing]
            dist.broadcast_object_list(carried, src=0)
            thing = carried[0]
        if thing is None:
            raise ValueError("the first process has nothing to share")
        return thing

    def decide(self, choose: Callable[[], T]) -> T:
        """What `choose` gives in the first process, for all. A TunekitError there is raised in all."""
        if self.world == 1:
            return choose()
        found: tuple[T | None, TunekitError | None] | None = None
        if self.first:
            try:
                found = choose(), None
            except TunekitError as fault:
                found = None, fault
        thing, mistake = self.share(found)
        if mistake is not None:
            raise mistake
        return thing  # type: ignore[return-value] # what `choose` gave

    def gather(self, thing: T) -> list[T]:
        """Everybody's `thing`, by rank."""
        if self.world == 1:
            return [thing]
        things: list[T] = [thing] * self.world
        dist.all_gather_object(things, thing)
        return things

    @torch.no_grad()
    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give everybody the first process's values, in place; a message a dtype, however many tensors."""
        if self.world == 1:
            return
        alike: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault(tensor.dtype, []).append(tensor)
        for group in alike.values():
            values = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.broadcast(values, src=0)
            for tensor, own in zip(group, values.split([tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(own.view(tensor.shape))


ALONE = Ranks()
