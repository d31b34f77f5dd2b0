"""A downloaded picture becomes one of the size and format asked for.

A Response comes in, one Item goes out, or a TransformFailed that says what is wrong with the bytes. What a body
is follows from its content, never from its name or headers. Pillow is loaded by the first call only, so that
the loop process, which never decodes, does without it.

Must never: decode before the header's pixel count is checked; give a picture that its
decoder, or a checksum, says is cut off or damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scraper.errors import TransformFailed, UsageError
from scraper.policies.resize import RESIZE_MODES
from scraper.records import Item, Response
from scraper.transforms.sniff import Kind, sniff

ENCODE_FORMATS = ("jpg", "png", "webp")

ACCEPTED = frozenset({"jpg", "png", "webp", "gif", "avif", "tiff", "bmp"})
"""Extensions of what is decoded. Never PostScript or SVG: those are programs, not pictures."""

_QUALITY = {"jpg": (1, 100, 95), "png": (0, 9, 6), "webp": (1, 100, 95)}
"""Least, most, default. 95 is img2dataset's; for png it is the compression level, where 6 is zlib's own."""


@dataclass(frozen=True)
class ImageTransform:
    """Decode, turn upright, resize, encode anew.

    Attributes:
        image_size: the side aimed at, in pixels.
        resize_mode: no, border, keep_ratio, keep_ratio_largest or center_crop; dashes may stand for underscores.
        resize_only_if_bigger: never enlarge: smaller pictures keep their size.
        encode_format: jpg, png or webp.
        encode_quality: 1 to 100 for jpg and webp, compression 0 to 9 for png; None for 95, 95 and 6.
        max_image_pixels: pictures with more pixels than this, before or after, are refused.

    Raises:
        UsageError: from construction: a value is out of range; the message says what is possible.
    """

    image_size: int = 256
    resize_mode: str = "border"
    resize_only_if_bigger: bool = False
    encode_format: str = "jpg"
    encode_quality: int | None = None
    max_image_pixels: int = 100_000_000

    inline: ClassVar[bool] = False
    preload: ClassVar[tuple[str, ...]] = ("scraper.transforms.pixels",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize_mode", self.resize_mode.replace("-", "_"))
        if self.resize_mode not in RESIZE_MODES:
            raise UsageError(f"--resize-mode is one of {', '.join(RESIZE_MODES)}, not {self.resize_mode!r}.")
        if self.encode_format not in ENCODE_FORMATS:
            raise UsageError(f"--encode-format is one of {', '.join(ENCODE_FORMATS)}, not {self.encode_format!r}.")
        if self.image_size < 1:
            raise UsageError("--image-size must be at least 1.")
        if self.max_image_pixels < 1:
            raise UsageError("--max-image-pixels must be at least 1.")
        least, most, default = _QUALITY[self.encode_format]
        if self.encode_quality is None:
            object.__setattr__(self, "encode_quality", default)
        elif not least <= self.encode_quality <= most:
            what = "the compression level" if self.encode_format == "png" else "a quality"
            raise UsageError(
                f"--encode-quality is {what} from {least} to {most} for {self.encode_format}, "
                f"not {self.encode_quality}; leave it out for {default}."
            )

    def warm_up(self) -> None:
        """Load Pillow, its plugins and the codecs behind them."""
        from scraper.transforms import codecs

        codecs.warm_up(self.encode_format)

    def __call__(self, response: Response) -> Sequence[Item]:
        """One picture.

        The item's fields are img2dataset's: width, height, original_width and original_height (of the upright
        picture, as people see it), and exif (JSON text, or None).

        Raises:
            TransformFailed: image.not_image, image.format, image.truncated, image.decode or image.bomb.
        """
        from scraper.transforms import pixels

        kind = _accepted(response.body)
        rendered = pixels.render(
            response.body,
            kind,
            pixels.Settings(
                self.image_size,
                self.resize_mode,
                self.resize_only_if_bigger,
                self.encode_format,
                self.encode_quality or 0,
                self.max_image_pixels,
            ),
        )
        fields = {
            "width": rendered.width,
            "height": rendered.height,
            "original_width": rendered.original_width,
            "original_height": rendered.original_height,
            "exif": rendered.exif,
        }
        return [Item(rendered.data, self.encode_format, fields)]


def _accepted(body: bytes | memoryview) -> Kind:
    """What the body is, if it is one of the formats we decode."""
    kind = sniff(body)
    if kind is not None and kind.extension in ACCEPTED:
        return kind
    if kind is None:
        what = f"{len(body)} bytes of no known format" if len(body) else "empty"
        raise TransformFailed("image.not_image", f"The body is {what}.")
    if kind.is_image:
        raise TransformFailed("image.format", f"The body is {kind.label}, which is not accepted.")
    raise TransformFailed("image.not_image", f"The body is {kind.label}, not a picture.")
