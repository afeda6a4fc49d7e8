"""Colour jitter in HSV on the device, of images (n, h, w, 3) float32 RGB in 0..255.

`change` (n, 5): the numbers of the three output channels, the gains of saturation and of value. A colour
of hue h (in sixths of the circle), saturation S and value V has in a channel
    V·(1 − S·clamp(min(k, 4 − k), 0, 1)),  k = (number + h) mod 6,
with the numbers 5, 3, 1 for red, green, blue. So a turn of the hue is added to the numbers, and red and
blue are swapped by swapping theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-3  # of a division by what is 0 for grey or black


def recolour(images: Tensor, change: Tensor) -> Tensor:
    """New images: hues turned, saturation and value multiplied, which stop at full."""
    red, green, blue = images.unbind(-1)
    *numbers, saturation_gain, value_gain = change[:, :, None, None].unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    hue = _hue(red, green, blue, value, chroma)
    saturation = (chroma / value.clamp(min=SMALLEST) * saturation_gain).clamp(max=1)
    value = (value * value_gain).clamp(max=255)
    chroma = value * saturation
    new = torch.empty_like(images)
    for channel, number in enumerate(numbers):
        k = (hue + number).remainder(6)
        new[..., channel] = value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
    return new


def _hue(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """(n, h, w) in sixths of the circle from red on; 0 for grey."""
    at_red, at_green, at_blue = green - blue, blue - red + 2 * chroma, red - green + 4 * chroma
    turned = torch.where(value == red, at_red, torch.where(value == green, at_green, at_blue))
    return turned / chroma.clamp(min=SMALLEST)
