"""``generate`` and ``import movielens``: graphs to run on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ekiden_cli.console import command, note, out, print_json
from ekiden_cli.errors import usage
from ekiden_cli.options import Json

if TYPE_CHECKING:
    from ekiden_cli.gremlin import GraphFolder

Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]

imports = typer.Typer(no_args_is_help=True, help="Turn a data set into a graph folder and a spec.")


@command
def generate(
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.", file_okay=False)],
    users: Annotated[int, typer.Option(help="Users.", min=1)] = 1000,
    movies: Annotated[int, typer.Option(help="Movies.", min=1)] = 1200,
    ratings: Annotated[int, typer.Option(help="Ratings, at most one per user and movie.", min=1)] = 60_000,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.", min=0)] = 7,
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Write a MovieLens-shaped rating graph with a spec ready to run.

    Long-tailed activity, user and movie biases, and taste that follows genres, age, gender and occupation.
    The best possible model errs by about 0.85 stars (RMSE).

    Examples:

        ekiden generate --out graph

        ekiden generate --out big --users 6000 --movies 4000 --ratings 1000000 --seed 1

        ekiden run graph/spec.yaml --watch
    """
    from ekiden_cli.generate import generate as write

    _check_empty(out_dir, force)
    try:
        written = write(out_dir, users=users, movies=movies, ratings=ratings, seed=seed)
    except ValueError as error:
        raise usage(str(error)) from None
    _report(written, json_output)


@imports.command("movielens", no_args_is_help=True)
@command
def import_movielens(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the data set's files.")],
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.", file_okay=False)],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Use a published split, e.g. u1 (u1.base and u1.test).")
    ] = None,
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Turn MovieLens-like ratings into Gremlin CSV and a spec.

    Layouts: 100K (u.data, u.item, u.user), 1M and MovieTweetings (.dat with ::), ml-latest (ratings.csv,
    movies.csv).

    Examples:

        ekiden import movielens ml-100k --out graph

        ekiden import movielens ml-100k --out graph-u1 --split u1

        ekiden run graph-u1/spec.yaml --watch
    """
    from ekiden_cli.delimited import BadInput
    from ekiden_cli.movielens import convert

    _check_empty(out_dir, force)
    try:
        written = convert(data, out_dir, split=split)
    except BadInput as error:
        raise usage(str(error)) from None
    _report(written, json_output)


def _report(written: GraphFolder, json_output: bool) -> None:
    if json_output:
        print_json(written.to_json())
        return
    counts = ", ".join(f"{count:,} {what}" for what, count in written.counts.items())
    out().print(f"wrote {counts} to {written.folder}", markup=False, soft_wrap=True)
    for text in written.notes:
        note(f"note: {text}")
    note(f"next  ekiden run {shlex.quote(str(written.spec))} --watch")


def _check_empty(folder: Path, force: bool) -> None:
    """Refuse to mix with what is in the folder: each CSV file there would be part of the graph."""
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise usage(
            f"the folder {folder} is not empty",
            "choose another with --out, or write into it with --force: its spec.yaml is replaced, other CSV files "
            "in it stay and are part of the graph",
        )
