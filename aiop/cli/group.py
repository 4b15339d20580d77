"""How the command line ends: one line and status 1 for whatever the user can cause, never a traceback."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from aiop.cli.output import print_error
from aiop.errors import AiopError

__all__ = ["OneLineErrors"]

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""


class OneLineErrors(TyperGroup):
    """Runs the commands; whatever the user can cause becomes ``error: ...`` on stderr and exit status 1."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and leave with its exit status."""
        options["standalone_mode"] = False  # usage errors come here, not into boxes with status 2
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names can be any bytes
        try:
            status = super().main(*args, **options) or 0
            sys.stdout.flush()  # a closed pipe shows here, not when the interpreter shuts down
        except AiopError as error:
            status = _fail(str(error))
        except typer.TyperException as error:
            status = _fail(_usage(error))
        except (typer.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has enough: what is still buffered goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            status = _fail(f"{place}{error.strerror or error}")
        if status == INTERRUPTED:
            print_error("interrupted")
        sys.exit(status)


def _fail(message: str) -> int:
    print_error(message)
    return 1


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where it says how it should be."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "aiop"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"
