"""The command line: finds the commands, runs one, turns errors into one line and an exit code.

Exit codes: 0 done, 1 a bug, 2 a user's error, 130 interrupted. stdout carries the result alone. Commands are the modules
of `hwsim.commands` whose name does not begin with ``_``; each holds ``HELP``, ``add_arguments(parser)`` and ``run(args) -> int``.
Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import NoReturn

import hwsim.commands
from hwsim.core.errors import HwsimError, UnknownName

DESCRIPTION = "What a quantization or architecture choice costs on real accelerator designs: cycles, energy, area."
_INTERRUPTED: list[int] = []
"""Signals received: an interrupt inside a compiler may come back as another exception."""
EPILOG = "Errors take one line and exit 2. HWSIM_DEBUG=1 shows the traceback behind an error."


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"hwsim: error: {message} (see {self.prog} --help)\n")


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_args: object, **_kwargs: object) -> None:
        from importlib.metadata import version

        print(f"hwsim {version('hwsim')}")
        parser.exit(0)


def find_commands() -> dict[str, ModuleType]:
    """Return the command modules by name; ``_`` in a module's name is ``-`` on the command line."""
    names = sorted(item.name for item in pkgutil.iter_modules(hwsim.commands.__path__) if item.name[0] != "_")
    return {name.replace("_", "-"): importlib.import_module(f"hwsim.commands.{name}") for name in names}


def build_parser(commands: dict[str, ModuleType]) -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(prog="hwsim", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and exit")
    group = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, module in commands.items():
        child = group.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(child)
        child.set_defaults(run_command=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if threading.current_thread() is threading.main_thread() and argv is None:
        signal.signal(signal.SIGINT, _note_interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of a small character set shows a question mark
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except HwsimError as error:
        _debug()
        return _complain(f"error: {error}", 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader of stdout is gone: leave quietly, and keep the interpreter from flushing into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        _debug()
        return _complain("error: not enough memory for tensors of this size", 2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _report_bug(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _complain(f"error: cannot write the output: {error.strerror}", 2)
    except Exception as error:
        if _INTERRUPTED:  # a compiler in between turned the interrupt into an error of its own
            return _complain("interrupted", 130)
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    _debug()
    text = " ".join(str(error).split())
    return _complain(f"internal error: {type(error).__name__}: {text} (a bug; HWSIM_DEBUG=1 shows the traceback)", 1)


def _note_interrupt(number: int, frame: FrameType | None) -> None:
    _INTERRUPTED.append(number)
    raise KeyboardInterrupt


def _dispatch(argv: list[str]) -> int:
    commands = find_commands()
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise UnknownName("command", argv[0], commands)
    args = build_parser(commands).parse_args(argv)
    return int(args.run_command(args) or 0)


def _complain(text: str, code: int) -> int:
    line = " ".join(text.splitlines())
    print(f"hwsim: {line}", file=sys.stderr)
    return code


def _debug() -> None:
    if os.environ.get("HWSIM_DEBUG"):
        import traceback

        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
