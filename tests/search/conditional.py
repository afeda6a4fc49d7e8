"""Spaces in which some parameters are searched with some choices only."""

from __future__ import annotations

from tunekit.search.space import Parameter, Space

SGD_ONLY = (("optimizer", ("SGD",)),)


def conditional_space() -> Space:
    """momentum belongs to SGD, which is not the default; a chain: close_mosaic, to a cos_lr that is SGD's."""
    return Space(
        "conditional",
        (
            Parameter(name="momentum", kind="float", low=0.5, high=0.9, prior=0.6, when=SGD_ONLY),
            Parameter(name="close_mosaic", kind="int", low=0, high=2, prior=1, when=(("cos_lr", (True,)),)),
            Parameter(name="cos_lr", kind="choice", choices=(True, False), prior=True, when=SGD_ONLY),
            Parameter(name="optimizer", kind="choice", choices=("AdamW", "SGD"), prior="AdamW"),
            Parameter(name="mixup", kind="float", low=0.0, high=1.0, prior=0.5),
        ),
    )
