"""`deeplab-native`: puts the commands together and turns errors into one line.

Nothing here imports torch: `--help` and usage errors answer at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .._errors import printable
from . import (
    convert_weights,
    crf,
    crf_search,
    demo,
    evaluate,
    export_onnx,
    info,
    repeat,
    segment,
    serve,
    train,
)
from ._ray import with_address
from .errors import STANDARD_OUTPUT, of_output, with_advice


class _OneLineErrors(TyperGroup):
    """Errors become one line `error: ...` on stderr and exit code 1; `--debug` lets them through.

    `--debug` and `--verbose` are accepted before and after the command's name, and `--output` under
    its old name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        own, rest = [_as_now(a) for a in args[:end]], args[end:]
        of_all = [a for a in own if a in _OF_ALL]
        own = [*of_all, *(a for a in own if a not in _OF_ALL)]
        own = with_address(own)
        repeat.remember([*own, *rest])
        return super().parse_args(ctx, [*own, *rest])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of our output left, e.g. `| head`: not an error
        except Exception as error:
            # typer's own exceptions (usage, exit, abort) are its own business
            if ctx.params.get("debug") or type(error).__module__.startswith(("typer", "click")):
                raise
            print(f"error: {printable(with_advice(of_output(error)))}", file=sys.stderr)
            raise typer.Exit(1) from None


_OF_ALL = ("--debug", "--verbose", "-v", "-vv")  # options of every command


def _as_now(argument: str) -> str:
    """`--out` and `--out=DIR` were the name of `--output` in some commands."""
    name, equals, value = argument.partition("=")
    return f"--output{equals}{value}" if name == "--out" else argument


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback is asked for with --debug, and then plain
    context_settings={"help_option_names": ["-h", "--help"]},
    help="DeepLab v2 and its fully connected CRF, as native kernels.",
    epilog="Start with [cyan]deeplab-native demo[/]: no download, a few seconds, one picture.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"deeplab-native {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            metavar="",
            show_default=False,
            help="Say on stderr what is decided; -vv: and what becomes of every image.",
        ),
    ] = 0,
) -> None:
    if verbose:
        from .console import show_log

        show_log(verbose)


_COMMANDS = {
    "demo": demo,
    "crf": crf,
    "segment": segment,
    "serve": serve,
    "train": train,
    "evaluate": evaluate,
    "crf-search": crf_search,
    "convert-weights": convert_weights,
    "export-onnx": export_onnx,
    "info": info,
}
for name, command in _COMMANDS.items():
    app.command(name, epilog=command.EXAMPLES)(command.run)


def main() -> None:
    """Runs `deeplab-native` on the arguments of this process, and ends it with the status."""
    with warnings.catch_warnings():
        warnings.showwarning = _in_one_line
        if hasattr(sys.stdout, "reconfigure"):  # names of files may be no text of its encoding
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                app(prog_name="deeplab-native")
            finally:
                if sys.stdout is not None:  # what it is where the shell closed it
                    sys.stdout.flush()  # Python would do it later, and only warn where it fails
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                if getattr(of_output(error), "filename", None) != STANDARD_OUTPUT:
                    raise  # of a command, with --debug
                before = error.__context__
                if not (isinstance(before, SystemExit) and before.code):  # of an error that is said
                    print(f"error: {printable(with_advice(error))}", file=sys.stderr)
            # what is left cannot be written, which Python would try once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None


def _in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as the commands say their own, without the line of the source that it is of."""
    print(f"warning: {printable(str(message))}", file=sys.stderr)
