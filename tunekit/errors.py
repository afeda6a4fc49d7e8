"""What can go wrong for a user: one flat hierarchy of errors.

Each error is a sentence that names the thing, the place (file:line or argument) and the way out.
They are raised where the fault is known and caught once, in the command line, which prints the
sentence without a traceback and exits with `exit_code`.
"""

from __future__ import annotations


class TunekitError(Exception):
    """A user's mistake or a fault of the surroundings, told in one sentence."""

    exit_code = 1


class ArgumentError(TunekitError):
    """An argument has an unknown name or a value that is not allowed."""

    exit_code = 2


class SpaceError(TunekitError):
    """A search space cannot be used: unknown key, impossible range, prior outside."""

    exit_code = 2


class DataError(TunekitError):
    """A data set cannot be used: its YAML, folders, images or labels."""

    exit_code = 2


class ModelError(TunekitError):
    """A model YAML cannot be built."""

    exit_code = 2


class CheckpointError(TunekitError):
    """A checkpoint is missing, damaged, or belongs to something else."""


class TrainingError(TunekitError):
    """Training cannot go on: the loss is not finite, memory ran out."""


class ResourceError(TunekitError):
    """More processors, GPUs or memory asked for than there are."""

    exit_code = 2


class RunFolderError(TunekitError):
    """A run folder cannot be written, read, or belongs to other work."""


class JobError(TunekitError):
    """A job on a cluster failed or was stopped; `exit_code` is its own."""

    def __init__(self, text: str, code: int = TunekitError.exit_code) -> None:
        super().__init__(text)
        self.exit_code = code
