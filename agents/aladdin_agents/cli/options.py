"""The options that several of these commands share."""

from __future__ import annotations

from typing import Annotated

import typer

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on this Ray cluster: HOST:PORT, ray://HOST:PORT, auto; local starts one here (docs/scale-out.md).",
        show_default=False,
    ),
]
