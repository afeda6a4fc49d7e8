"""The command line: `tunekit VERB key=value ...` -> the verb's call -> an exit code.

Words are taken apart here; what a name or a value may be is said in args.py. Errors that are the
user's to mend are caught here, once: one sentence on stderr, no traceback. Nothing heavy is
imported: asking for help costs no torch and no Ray.
"""

from __future__ import annotations

import difflib
import logging
import os
import select
import sys
from collections.abc import Sequence

from tunekit.errors import ArgumentError, TunekitError
from tunekit.verbs import VERBS, call
from tunekit.words import parse

HELP = ("-h", "--help", "help")
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
PIPE_CLOSED = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(words)
        sys.stdout.flush()
    except TunekitError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not _stdout_is_closed():
            raise
        return PIPE_CLOSED
    return 0


def _run(words: list[str]) -> None:
    if not words or words[0] in HELP:
        from tunekit.help import overview, verb_help

        print(verb_help(_verb(words[1])) if len(words) > 1 else overview(), end="")
    elif words[0] in ("--version", "-V", "version"):
        from tunekit import __version__

        print(f"tunekit {__version__}")
    else:
        verb, rest = _verb(words[0]), words[1:]
        if any(word in HELP for word in rest):
            from tunekit.help import verb_help

            print(verb_help(verb), end="")
        else:
            _show_log()
            call(verb, parse(verb, rest))


def _show_log() -> None:
    """What takes a while or was mended on the way (images decoded, a damaged cache) is said on stderr."""
    logger = logging.getLogger("tunekit")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _verb(word: str) -> str:
    if word in VERBS:
        return word
    verbs = ", ".join(VERBS)
    if "=" in word:
        raise ArgumentError(f"a verb comes first ({verbs}): tunekit VERB {word}")
    near = difflib.get_close_matches(word.lower(), VERBS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ArgumentError(f"unknown verb '{word}': {hint}The verbs are {verbs}")


def _complain(error: TunekitError) -> None:
    red, plain = ("\x1b[31m", "\x1b[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    for line in str(error).splitlines():
        print(f"{red}error:{plain} {line}", file=sys.stderr)


def _stdout_is_closed() -> bool:
    """Whether the reader of our output has gone (`tunekit --help | head -1`), and no other pipe."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if gone:
        # What is still buffered would fail once more, noisily, when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone
