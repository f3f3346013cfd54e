"""Images: a display as two small PNG files in base64, on a light page and on a dark one.

Displays flow in, ``data:`` addresses flow out. Colours are few, so each image is held as a palette of 256, which takes
a third of the room.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..displays.canvas import Display

PIXELS_PER_INCH = 192
"""Twice a screen's 96: sharp where pixels are small, and on paper."""

LIGHT = {"page": "#ffffff", "text": "#1b1f24"}
DARK = {"page": "#171b21", "text": "#e3e6ea"}
"""As in templates/report.css."""


class Image(NamedTuple):
    """Addresses of a picture, and its size in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int


def image(display: Display) -> Image:
    """Draw a display twice."""
    light, width, height = _png(display, **LIGHT)
    dark, _, _ = _png(display, **DARK)
    return Image(light, dark, width, height)


def _png(display: Display, page: str, text: str) -> tuple[str, int, int]:
    from matplotlib import rc_context
    from PIL import Image as Pillow

    colours = dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], text
    ) | dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], page)
    held = io.BytesIO()
    with rc_context(colours | {"font.family": "sans-serif"}):  # type: ignore[arg-type]  # keys are rcParams'
        display.plot()  # type: ignore[attr-defined]  # every display has its own parameters
        display.figure_.savefig(held, format="png", dpi=PIXELS_PER_INCH)
    with Pillow.open(held) as full:
        width, height = full.size
        small = full.convert("RGB").quantize(256, dither=Pillow.Dither.NONE)
    packed = io.BytesIO()
    small.save(packed, format="png", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return address, round(width * 96 / PIXELS_PER_INCH), round(height * 96 / PIXELS_PER_INCH)
