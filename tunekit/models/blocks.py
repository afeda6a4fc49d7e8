"""The building blocks of YOLOv8, YOLO11 and YOLO26: feature map (B, c1, H, W) -> feature map (B, c2, H', W').

What comes in: channels and the small numbers of a layer-table row. What goes out: modules whose attribute
names are those of the public checkpoints (`conv`, `bn`, `cv1`, `m` ...), which is what lets weights load.
Blocks know nothing of tables, scales, classes or boxes. All hidden widths are int(e * c2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Conv(nn.Module):
    """Convolution without bias, batch norm, activation: act=True is SiLU, False none, a module itself."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        padding = d * (k - 1) // 2 if p is None else p
        self.conv = nn.Conv2d(c1, c2, k, s, padding, dilation=d, groups=g, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        # Not in place: autograd needs the input, and would copy it first.
        self.act = act if isinstance(act, nn.Module) else nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DWConv(Conv):
    """Depthwise convolution: as many groups as both sides' channels allow."""

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, act: bool | nn.Module = True
    ) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


class Concat(nn.Module):
    """Several maps joined along the channels."""

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, maps: list[Tensor]) -> Tensor:
        return torch.cat(maps, self.dimension)


class Bottleneck(nn.Module):
    """Two 3x3 convolutions c1 -> e*c2 -> c2; the input is added where shortcut and c1 = c2."""

    def __init__(
        self,
        c1: int,
        c2: int,
        shortcut: bool = True,
        g: int = 1,
        k: tuple[int, int] = (3, 3),
        e: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, k[0])
        self.cv2 = Conv(hidden, c2, k[1], g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C2f(nn.Module):
    """1x1 to 2c, n chained bottlenecks on its second half, every stage kept, concat, 1x1 to c2."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        self.c = int(c2 * e)
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(Bottleneck(self.c, self.c, shortcut, g, e=1.0) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        stages = list(self.cv1(x).split(self.c, 1))
        y = stages[-1]
        for block in self.m:
            y = block(y)
            stages.append(y)
        return self.cv2(torch.cat(stages, 1))


class C3k(nn.Module):
    """Two 1x1 branches to e*c2, n bottlenecks of k x k on the first, concat, 1x1 to c2."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5, k: int = 3
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden)
        self.cv2 = Conv(c1, hidden)
        self.cv3 = Conv(2 * hidden, c2)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, (k, k), 1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3k2(C2f):
    """C2f's wiring around C3k blocks (c3k) or half-width bottlenecks."""

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: float = 0.5,
        attn: bool = False,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(self._inner(c3k, attn, shortcut, g) for _ in range(n))

    def _inner(self, c3k: bool, attn: bool, shortcut: bool, g: int) -> nn.Module:
        if attn:
            heads = max(self.c // 64, 1)
            return nn.Sequential(Bottleneck(self.c, self.c, shortcut, g), PSABlock(self.c, heads))
        if c3k:
            return C3k(self.c, self.c, 2, shortcut, g)
        return Bottleneck(self.c, self.c, shortcut, g)


class SPPF(nn.Module):
    """Pyramid pooling: 1x1 to c1/2, n max pools one after the other, concat of all, 1x1 to c2.

    `act`: whether the first convolution has an activation. In YOLOv8 and YOLO11 it has; models whose table
    names n and shortcut (YOLO26) are meant without.
    """

    def __init__(
        self, c1: int, c2: int, k: int = 5, n: int = 3, shortcut: bool = False, act: bool = True
    ) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, act=act)
        self.cv2 = Conv(hidden * (n + 1), c2)
        self.m = nn.MaxPool2d(k, stride=1, padding=k // 2)
        self.n = n
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for _ in range(self.n):
            maps.append(self.m(maps[-1]))
        y = self.cv2(torch.cat(maps, 1))
        return x + y if self.add else y


class Attention(nn.Module):
    """Self-attention over the cells of a map, plus a depthwise 3x3 convolution of v that tells positions."""

    def __init__(self, dim: int, heads: int, ratio: float = 0.5) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.key_dim = int(self.head_dim * ratio)
        self.scale = self.key_dim**-0.5
        self.qkv = Conv(dim, dim + 2 * heads * self.key_dim, act=False)
        self.proj = Conv(dim, dim, act=False)
        self.pe = Conv(dim, dim, 3, g=dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        qkv = self.qkv(x).reshape(batch, self.heads, 2 * self.key_dim + self.head_dim, height * width)
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.head_dim), 2)  # each (B, heads, dim, cells)
        weights = ((q * self.scale).transpose(2, 3) @ k).softmax(3)  # (B, heads, cells, cells)
        mixed = (v @ weights.transpose(2, 3)).reshape(batch, dim, height, width)
        return self.proj(mixed + self.pe(v.reshape(batch, dim, height, width)))


class PSABlock(nn.Module):
    """Attention and a two-layer 1x1 network, each added to its input."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(c, heads)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn(x)


class C2PSA(nn.Module):
    """1x1 to two halves, n attention blocks on the second, concat, 1x1 back to c1."""

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        if c1 != c2:
            raise ValueError(f"C2PSA keeps its channels: {c1} come in, {c2} are asked for")
        self.c = int(c1 * e)
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv(2 * self.c, c1)
        self.m = nn.Sequential(*(PSABlock(self.c, max(self.c // 64, 1)) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((a, self.m(b)), 1))
