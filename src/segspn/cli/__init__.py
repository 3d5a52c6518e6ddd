"""The command line: parse, call, print.

Everything heavy is imported inside the commands, so that ``segspn --help`` is quick.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import segspn
from segspn.cli.app import app_command
from segspn.cli.convert import convert
from segspn.cli.evaluate import evaluate_app
from segspn.cli.stage import stage_app
from segspn.cli.train import train_app
from segspn.cli.video import refine, segment
from segspn.cli.watch import watch
from segspn.errors import InputError

_BAD_INPUT = 2
_CTRL_C = 130  # 128 + SIGINT, as shells have it


class _Commands(TyperGroup):
    """Tells what a user can mend in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            _complain(str(error))
            raise typer.Exit(_BAD_INPUT) from error
        except KeyboardInterrupt as stop:
            _complain(str(stop) or "stopped")
            raise typer.Exit(_CTRL_C) from stop


def _complain(message: str) -> None:
    print(f"segspn: {message}", file=sys.stderr)


class _Notes(logging.Handler):
    """What the library has to say, on the error stream as it is then: a progress bar replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        _complain(record.getMessage())


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    # A traceback is a bug report; Python's own is the one that can be pasted.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the console entry point."""
    notes = logging.getLogger("segspn")
    notes.setLevel(logging.INFO)
    notes.handlers = [_Notes()]
    app(prog_name="segspn")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"segspn {segspn.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Follow objects through a video: a mask in one frame in, masks in every frame out."""


@app.command()
def info() -> None:
    """Versions, devices, presets and weights of this installation."""
    from segspn.jobs import installation

    for line in installation():
        print(line)


app.command()(segment)
app.command()(refine)
app.command("app")(app_command)
app.command()(watch)
app.command()(convert)
app.add_typer(
    stage_app, name="stage", help="Run one stage alone, from files to files, on one video."
)
app.add_typer(train_app, name="train", help="Train the weights offline, on stills with masks.")
app.add_typer(evaluate_app, name="evaluate", help="Score masks against the truth.")
