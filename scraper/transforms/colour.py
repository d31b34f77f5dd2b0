"""Pixels of any mode → 8-bit sRGB: L, RGB, or RGBA where transparency is kept.

In: a picture that is decoded. Out: one that resizing and every encoder understands.
Must never: clip what can be scaled; read a profile as anything but data.
"""

from __future__ import annotations

from PIL import Image


def plain(image: Image.Image, *, keep_alpha: bool) -> Image.Image:
    """The picture in L or RGB; in RGBA if it is transparent somewhere and that is to be kept."""
    pixels = _eight_bit(image)
    if pixels.has_transparency_data:
        pixels = pixels.convert("RGBA")
        return pixels if keep_alpha else _on_white(pixels)
    return pixels if pixels.mode in ("RGB", "L") else pixels.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deeper samples scaled, not clipped; one-bit samples widened."""
    if image.mode == "1":
        return image if "transparency" in image.info else image.convert("L")
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image
    if image.mode.startswith("I;16"):
        white = 65_535.0
        image = image.convert("I")
    else:
        # 32 bits: formats do not say what white is. The next usual scale above the brightest sample.
        extrema = image.getextrema()
        brightest = extrema[1]
        assert isinstance(brightest, int | float)
        scales = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
        white = next((scale for scale in scales if brightest <= scale), float(brightest))
    factor = 255.0 / white
    return image.point(lambda sample: sample * factor + 0.5).convert("L")


def _on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat
