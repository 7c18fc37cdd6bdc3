"""The colour that a name has, the same in every picture, on every page and on every machine."""

import colorsys
import zlib

# Of a colour by its name: it stands out from white and from a dark page alike, by more than 3 to 1 (WCAG 2, 1.4.11).
LUMINANCE = 0.19
SATURATION = 0.6


def colour_of(name: str) -> str:
    """Return the colour of a name, as #rrggbb; its hue hangs on the name alone."""
    hue = zlib.crc32(name.encode()) / 2**32
    low, high = 0.0, 1.0
    for _ in range(12):  # the lightness that has the luminance, by halving
        middle = (low + high) / 2
        found = written(colorsys.hls_to_rgb(hue, middle, SATURATION))
        low, high = (middle, high) if luminance(found) < LUMINANCE else (low, middle)
    return written(colorsys.hls_to_rgb(hue, high, SATURATION))


def written(shares: tuple[float, float, float]) -> str:
    """Write the shares of red, green and blue as #rrggbb."""
    return "#" + "".join(f"{round(255 * share):02x}" for share in shares)


def shares_of(colour: str) -> tuple[float, float, float]:
    """Read the shares of red, green and blue from #rrggbb."""
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def mixed(colour: str, other: str, share: float) -> str:
    """Mix a colour with a share of another one."""
    pairs = zip(shares_of(colour), shares_of(other), strict=True)
    red, green, blue = ((1 - share) * own + share * added for own, added in pairs)
    return written((red, green, blue))


def luminance(colour: str) -> float:
    """Compute how bright a colour is to the eye, from 0 (black) to 1 (white): WCAG 2's relative luminance."""
    red, green, blue = (
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares_of(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Compute the contrast of two colours, from 1 to 21, as WCAG 2 has it: 4.5 for text, 3 for lines."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
