"""The detection head: feature maps of several strides -> raw boxes and classes -> pixels and scores.

In: per level a map (B, ch, H, W). Out: HeadOutput, the same in training and evaluation, which the loss and
`decode` read. Nothing here knows of losses, thresholds or NMS.

YOLO26 has a second head of the same shape beside the first. The first learns many anchors for each object,
as YOLOv8's and YOLO11's do; the second learns one, so that its detections need no NMS. It begins as a copy of
the first and sees the maps without passing gradients back: one anchor an object would teach the rest little.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunekit.models.blocks import Conv, DWConv


@dataclass(frozen=True)
class HeadOutput:
    """Raw predictions for A anchors: the cells of all levels, finest level first, row by row."""

    box: Tensor  # (B, A, 4*reg_max) left, top, right, bottom: reg_max logits each; if 1, the side in strides
    cls: Tensor  # (B, A, nc) logits
    anchors: Tensor  # (A, 2) float32 cell centres x, y in units of the stride
    strides: Tensor  # (A, 1) float32 pixels
    one_to_one: HeadOutput | None = None  # of the head that needs no NMS, where the model has it


class DFL(nn.Module):
    """Expectation of a distribution over distances 0 .. reg_max - 1, in units of the stride."""

    def __init__(self, reg_max: int) -> None:
        super().__init__()
        # A convolution only so that checkpoints find their `dfl.conv.weight`; it is never trained.
        self.conv = nn.Conv2d(reg_max, 1, 1, bias=False).requires_grad_(False)

    def reset(self) -> None:
        bins = torch.arange(self.conv.in_channels, dtype=torch.float32, device=self.conv.weight.device)
        self.conv.weight.copy_(bins.view(1, -1, 1, 1))

    def forward(self, logits: Tensor) -> Tensor:  # (B, A, 4*reg_max) -> (B, A, 4)
        probabilities = logits.unflatten(-1, (4, -1)).float().softmax(-1)
        return probabilities @ self.conv.weight.view(-1).float()


class Detect(nn.Module):
    """Per level a box and a class branch. `depthwise`: YOLO11's class branch; else YOLOv8's plain one.
    `class_width`: its channels where they do not follow from the classes. `end2end`: a second head, too."""

    def __init__(
        self,
        nc: int,
        channels: Sequence[int],
        strides: Sequence[int],
        reg_max: int,
        *,
        depthwise: bool,
        class_width: int | None,
        end2end: bool,
    ) -> None:
        super().__init__()
        self.nc = nc
        self.reg_max = reg_max
        self.end2end = end2end
        self.strides = tuple(strides)
        hidden_box = max(16, channels[0] // 4, 4 * reg_max)
        hidden_cls = class_width or max(channels[0], min(nc, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(
                Conv(c, hidden_box, 3), Conv(hidden_box, hidden_box, 3), nn.Conv2d(hidden_box, 4 * reg_max, 1)
            )
            for c in channels
        )
        branch = self._depthwise_branch if depthwise else self._plain_branch
        self.cv3 = nn.ModuleList(branch(c, hidden_cls, nc) for c in channels)
        self.dfl = DFL(reg_max) if reg_max > 1 else nn.Identity()
        if end2end:
            self.one2one_cv2 = copy.deepcopy(self.cv2)
            self.one2one_cv3 = copy.deepcopy(self.cv3)
        self._grids: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    @staticmethod
    def _plain_branch(c: int, hidden: int, nc: int) -> nn.Sequential:
        return nn.Sequential(Conv(c, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, nc, 1))

    @staticmethod
    def _depthwise_branch(c: int, hidden: int, nc: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Sequential(DWConv(c, c, 3), Conv(c, hidden, 1)),
            nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden, 1)),
            nn.Conv2d(hidden, nc, 1),
        )

    @torch.no_grad()
    def reset(self) -> None:
        """Biases that start training near the answer: boxes of some size, about 5 objects an image."""
        if isinstance(self.dfl, DFL):
            self.dfl.reset()
        for boxes, classes in self._heads():
            for box, cls, stride in zip(boxes, classes, self.strides, strict=True):
                nn.init.constant_(box[-1].bias, 2.0)  # type: ignore[index]
                nn.init.constant_(cls[-1].bias, math.log(5 / self.nc / (640 / stride) ** 2))  # type: ignore[index]

    def forward(self, maps: list[Tensor]) -> HeadOutput:
        anchors, strides = self._grid([(x.shape[2], x.shape[3]) for x in maps], maps[0].device)
        one_to_one = None
        if self.end2end:
            detached = [x.detach() for x in maps]
            one_to_one = HeadOutput(
                _levels(self.one2one_cv2, detached), _levels(self.one2one_cv3, detached), anchors, strides
            )
        return HeadOutput(_levels(self.cv2, maps), _levels(self.cv3, maps), anchors, strides, one_to_one)

    def _heads(self) -> list[tuple[nn.ModuleList, nn.ModuleList]]:
        """The box and class branches of each head."""
        second = [(self.one2one_cv2, self.one2one_cv3)] if self.end2end else []
        return [(self.cv2, self.cv3), *second]

    def drop_one_to_many(self) -> None:
        """Keep the head that needs no NMS alone, under the names of the other: for inference."""
        if self.end2end:
            self.cv2, self.cv3, self.end2end = self.one2one_cv2, self.one2one_cv3, False
            del self.one2one_cv2, self.one2one_cv3

    def decode(self, output: HeadOutput) -> tuple[Tensor, Tensor]:
        """Boxes (B, A, 4) float32 xyxy in input pixels, scores (B, A, nc) float32 in 0..1.

        Anchors and strides may also differ between images, as (B, A, 2) and (B, A, 1).
        """
        left_top, right_bottom = self.dfl(output.box).float().chunk(2, -1)
        corners = torch.cat((output.anchors - left_top, output.anchors + right_bottom), -1)
        return corners * output.strides, output.cls.float().sigmoid()

    def _grid(self, shapes: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
        key = (*shapes, device)
        if key not in self._grids:
            # Grids made while validating in inference mode would be refused by autograd in training.
            with torch.inference_mode(False):
                self._grids[key] = make_grid(shapes, self.strides, device)
        return self._grids[key]


def make_grid(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cell centres (A, 2) in units of the stride and strides (A, 1) for levels of (height, width)."""
    centres, sizes = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y = torch.arange(height, device=device, dtype=torch.float32) + 0.5
        x = torch.arange(width, device=device, dtype=torch.float32) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y), -1).view(-1, 2))
        sizes.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(centres), torch.cat(sizes)


def _levels(branches: nn.ModuleList, maps: list[Tensor]) -> Tensor:
    """Every level's map through its branch, all cells in one row: (B, A, C)."""
    return torch.cat([_cells(branch(x)) for branch, x in zip(branches, maps, strict=True)], 1)


def _cells(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W, C): a view when x is channels_last, as under training."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
