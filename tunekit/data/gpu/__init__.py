"""Augmentation on the device: all images lie in its memory, batches are made there.

store -> chance -> canvas -> view, outlines -> plan (NumPy: a few numbers and the boxes)
-> pixels, colour (tensors on the device) -> loader
"""

from tunekit.data.gpu.loader import GpuLoader

__all__ = ["GpuLoader"]
