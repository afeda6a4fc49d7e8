"""A detector from its description: ModelSpec and class names -> DetectionModel.

In: images (B, 3, H, W) float 0..1, sides multiples of the largest stride. Out: HeadOutput, raw, the same in
training and evaluation; `decode` turns it into boxes in pixels and scores. Knows no losses, files or NMS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunekit.errors import ModelError
from tunekit.models.blocks import Conv
from tunekit.models.heads import Detect, HeadOutput
from tunekit.models.rows import OTHERS, SCALED, TableFault
from tunekit.models.spec import ModelSpec, load_spec
from tunekit.models.table import Layer, Table, read_table

__all__ = ["DetectionModel", "ModelSpec", "build_model", "load_spec"]


class DetectionModel(nn.Module):
    """Backbone, neck and head in the order of the layer table; `model.<index>` is the table's row."""

    def __init__(self, spec: ModelSpec, names: Sequence[str]) -> None:
        super().__init__()
        if not names:
            raise ModelError(f"{spec.name}: a detector needs at least one class name")
        self.spec = spec
        self.names = tuple(names)
        self.nc = len(self.names)
        try:
            table = read_table(spec.yaml, spec.scale)
        except TableFault as fault:
            where = "" if fault.layer is None else f", layer {fault.layer}"
            raise ModelError(f"model {spec.name}{where}: {fault}") from fault
        self.reg_max = table.reg_max
        layers: list[nn.Module] = []
        for index, layer in enumerate(table.layers):
            try:
                layers.append(_module(layer, table, self.nc))
            except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as fault:
                raise ModelError(
                    f"model {spec.name}, layer {index}: {layer.module} cannot be built with "
                    f"{list(layer.args)}: {fault}"
                ) from fault
        self.model = nn.Sequential(*layers)
        self._sources = tuple(layer.sources for layer in table.layers)
        self._kept = frozenset(s for i, layer in enumerate(table.layers) for s in layer.sources if s != i - 1)
        if table.activation is not None:
            _replace_activation(self, table.activation)
        self.head.reset()
        self.stride = self.head.strides

    @property
    def end2end(self) -> bool:
        """Whether there is a head that needs no NMS: HeadOutput.one_to_one."""
        return self.head.end2end

    @property
    def head(self) -> Detect:
        head = self.model[-1]
        assert isinstance(head, Detect)
        return head

    def forward(self, images: Tensor) -> HeadOutput:
        x: Any = images  # a map, and after the last layer the HeadOutput
        kept: dict[int, Tensor] = {}
        for index, (layer, sources) in enumerate(zip(self.model, self._sources, strict=True)):
            maps = [x if s == index - 1 else kept[s] for s in sources]
            x = layer(maps) if isinstance(layer, _JOINING) else layer(maps[0])
            if index in self._kept:
                kept[index] = x
        return x

    def decode(self, output: HeadOutput) -> tuple[Tensor, Tensor]:
        """boxes (B, A, 4) float32 xyxy in input pixels, scores (B, A, nc) float32 in 0..1.

        Of an end-to-end model these are the one-to-many head's, which need NMS; for those of the head that
        needs none, decode `output.one_to_one`.
        """
        return self.head.decode(output)


_JOINING = (OTHERS["Concat"], Detect)


def build_model(spec: ModelSpec, names: Sequence[str], seed: int | None = None) -> DetectionModel:
    """A model with fresh weights. The same seed gives the same weights and leaves global state alone."""
    with _seeded(seed):
        return DetectionModel(spec, names)


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed every GPU, which fork_rng(devices=[]) does not restore.
        torch.random.default_generator.manual_seed(seed)
        yield


def _module(layer: Layer, table: Table, nc: int) -> nn.Module:
    if layer.module == "Detect":
        return Detect(
            nc,
            layer.channels,
            layer.args,
            table.reg_max,
            depthwise=table.depthwise_classes,
            class_width=table.class_width,
            end2end=table.end2end,
        )
    kind = SCALED[layer.module][0] if layer.module in SCALED else OTHERS[layer.module]
    if layer.copies == 1:
        return kind(*layer.args)
    if layer.module not in SCALED:
        return nn.Sequential(*(kind(*layer.args) for _ in range(layer.copies)))
    c1, c2, *rest = layer.args
    return nn.Sequential(*(kind(c2 if i else c1, c2, *rest) for i in range(layer.copies)))


def _replace_activation(model: nn.Module, activation: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):
            module.act = activation
