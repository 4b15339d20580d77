"""The ``aiop`` command: puts the commands together. Heavy packages are imported inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from aiop import __version__
from aiop.cli.bench import bench
from aiop.cli.build import build
from aiop.cli.compress import compress
from aiop.cli.corpus import corpus
from aiop.cli.evaluate import evaluate
from aiop.cli.explain import explain
from aiop.cli.finetune import finetune
from aiop.cli.group import OneLineErrors
from aiop.cli.infuse import infuse
from aiop.cli.inspect import inspect
from aiop.cli.latent import latent
from aiop.cli.predict import predict
from aiop.cli.pretrain import pretrain
from aiop.cli.search import search
from aiop.cli.spaces import spaces
from aiop.cli.tasks import tasks

__all__ = ["app", "main"]

app = typer.Typer(
    cls=OneLineErrors, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


@app.callback(invoke_without_command=True)
def _aiop(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Predict what a neural network will achieve, from its ONNX file alone."""
    if version:
        print(f"aiop {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for _command in (
    inspect,
    predict,
    compress,
    explain,
    search,
    finetune,
    evaluate,
    infuse,
    build,
    spaces,
    tasks,
    pretrain,
    bench,
):
    app.command()(_command)
app.add_typer(corpus, name="corpus")
app.add_typer(latent, name="latent")


def main() -> None:
    """Run the command line on ``sys.argv``."""
    app(prog_name="aiop")
