"""Where the court is in a picture: a court file, written and checked by looking."""

from __future__ import annotations

import re
from pathlib import Path

import click

Points = dict[str, tuple[float, float]]


def _points(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> Points:
    """NAME=X,Y, each once."""
    found: Points = {}
    for text in given:
        fits = re.fullmatch(r"([^=]+)=(-?[\d.]+),(-?[\d.]+)", text)
        try:
            name, x, y = fits.groups() if fits else ("", "", "")
            place = (float(x), float(y))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not NAME=X,Y, as near-left=254,589") from None
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        found[name] = place
    return found


def _frames(_: click.Context, __: click.Parameter, given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    fits = re.fullmatch(r"(\d+)-(\d+)", given)
    if not fits or int(fits[1]) > int(fits[2]):
        raise click.BadParameter(f"{given!r} is not FIRST-LAST, as 0-899")
    return int(fits[1]), int(fits[2])


@click.command()
@click.argument("video", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--sport",
    default="tennis",
    show_default=True,
    metavar="[tennis|tennis-singles|badminton|padel|table-tennis]",
)
@click.option(
    "--point",
    "points",
    multiple=True,
    callback=_points,
    metavar="NAME=X,Y",
    help="A landmark, and where it is in the picture, px; four or more, of which no "
    "three lie in a line. Five or more show mistakes.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Court file to write, or to add to.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG to write: the court's lines on the frame; without points a grid of pixel "
    "coordinates, and the landmarks.",
)
@click.option(
    "--frame",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Frame of VIDEO that is shown.",
)
@click.option(
    "--for",
    "pattern",
    metavar="PATTERN",
    help="Videos that show this court, by name (*.mp4) or whole path; * is all.  "
    "[default: the name of VIDEO]",
)
@click.option(
    "--frames",
    callback=_frames,
    metavar="FIRST-LAST",
    help="Only these frames show it, where a camera moves or others cut in.",
)
@click.option("--list", "show_list", is_flag=True, help="Only print the landmarks of --sport.")
def court(
    video: Path | None,
    sport: str,
    points: Points,
    out: Path | None,
    picture: Path | None,
    frame: int,
    pattern: str | None,
    frames: tuple[int, int] | None,
    show_list: bool,
) -> None:
    """Say where the court is in VIDEO, for metres and km/h in `events`.

    First a picture to read the points from, then the court file and a picture to check it:

    \b
    tracknet court final.mp4 --picture guide.png
    tracknet court final.mp4 --point near-left=218,598 --point near-right=1069,594
        --point far-left=426,220 --point far-right=848,219 --point near-T=640,453
        --out court.json --picture check.png
    tracknet court --list --sport padel
    tracknet events find tables/ --court court.json
    """
    from tracknet.commands.console import print_table
    from tracknet.jobs.courts import CourtEntry, add_court, court_picture, guide_picture
    from tracknet.pipeline.events.standards import standard_of
    from tracknet.pipeline.pictures.draw import write_png
    from tracknet.pipeline.pictures.errors import read_frame

    landmarks = standard_of(sport).landmarks
    if show_list:
        rows = [(name, f"{x:.3f}", f"{y:.3f}") for name, (x, y) in landmarks.items()]
        print_table(("landmark", "x (m)", "y (m)"), rows, right=(1, 2))
        return
    if video is None:
        raise click.UsageError("name a video, or give --list")
    if not points and (out or not picture):
        raise click.UsageError("give --point NAME=X,Y; --picture alone shows where they may be")
    still = read_frame(video.absolute(), frame)
    if points:
        size = (still.shape[1], still.shape[0])
        entry = CourtEntry(pattern or video.name, sport, size, points, frames)
        fitted = entry.fit()
        rows = [(n, f"{fitted.errors_px[n]:.1f}", f"{fitted.errors_m[n]:.2f}") for n in points]
        print_table(("landmark", "off (px)", "off (m)"), rows, right=(1, 2))
        still = court_picture(still, entry)
        if out:
            click.echo(f"{out}: {add_court(out, entry)} courts")
    else:
        still = guide_picture(still, sport)
    if picture:
        write_png(picture, still)
        click.echo(picture)
