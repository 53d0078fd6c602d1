"""Results for others: export, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracknet.commands.options import Place

if TYPE_CHECKING:
    from tracknet.jobs.export import Format

FORMATS = ("tracknet-csv", "mot", "coco", "label-studio")


@click.command()
@click.argument("tables", type=Place(exists=True, file_okay=False))
@click.option("--to", required=True, type=click.Choice(FORMATS), help="Format to write.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder to write one file per video to.")  # fmt: skip
@click.option("--box", "box_px", default=12.0, show_default=True,
              type=click.FloatRange(min=0, min_open=True),
              help="Side of the box around the ball, px; csv has none.")  # fmt: skip
def export(tables: Path, to: Format, out: Path, box_px: float) -> None:
    """Write the results in the folder TABLES in another tool's format.

    \b
    tracknet export tables/ --to tracknet-csv --out labels/
    tracknet export tables/ --to coco --out coco/ --box 16
    """
    from tracknet.commands.console import progress
    from tracknet.jobs.export import export as write
    from tracknet.schemas.store import Store

    with progress("exporting") as report:
        files = write(Store(tables), to, out, box_px, lambda d, n: report(d, n, "videos"))
    click.echo(f"{len(files)} videos exported to {out}")


@click.command()
@click.argument("tables", type=Place(exists=True, file_okay=False))
@click.option("--out", default=Path("report.html"), show_default=True,
              type=click.Path(dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--videos", default=20, show_default=True, type=click.IntRange(min=0),
              help="How many videos are shown in detail; the first table has all.")  # fmt: skip
def report(tables: Path, out: Path, videos: int) -> None:
    """Write one HTML file that shows what is in the folder TABLES; it opens offline.

    \b
    tracknet report tables/ --out report.html
    """
    from tracknet.commands.console import progress
    from tracknet.jobs.report import write_report
    from tracknet.schemas.store import Store

    with progress("drawing") as shown:
        write_report(Store(tables), out, videos, lambda d, n: shown(d, n, "videos"))
    click.echo(out)
