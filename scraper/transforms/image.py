"""A downloaded picture becomes one of the size and format asked for.

A Response comes in; an Item for each size goes out, or a TransformFailed that says what is wrong with it.
What a body is follows from its content, never from its name or headers. Pillow is loaded by the first call only,
so that the loop process does without it while it fetches.

Must never: decode before the header's pixel count is checked; give a picture that its decoder, or a checksum, says
is cut off or damaged.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scraper.errors import TransformFailed, UsageError
from scraper.policies.resize import AUTO, FILTERS, RESIZE_MODES, SAME
from scraper.records import Item, Response
from scraper.transforms.sniff import DECODABLE, Kind, sniff

ENCODE_FORMATS = ("jpg", "png", "webp")

ACCEPTED = ("jpg", "png", "webp", "gif", "avif", "tiff", "bmp")
"""Extensions of what is decoded if nothing is said. Never PostScript or SVG: those are programs, not pictures."""

_MAY_BE_ACCEPTED = tuple(each for each in DECODABLE if each != "ico")
"""Pillow decodes an icon before it says how large it is."""

METADATA = ("strip", "keep", "keep-gps")
ANIMATED = ("first", "refuse")

_QUALITY = {"jpg": (1, 100, 95), "png": (0, 9, 6), "webp": (1, 100, 95)}
"""Least, most, default. 95 is img2dataset's; for png it is the compression level, where 6 is zlib's own."""

_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "gray": (128, 128, 128)}
_HEX = re.compile("#?([0-9a-f]{3}|[0-9a-f]{6})", re.IGNORECASE)


@dataclass(frozen=True)
class ImageTransform:
    """Decode, turn upright, resize, encode anew.

    Attributes:
        image_size: the side aimed at, in pixels; several make as many pictures of each row, from one decoding.
        resize_mode: no, border, keep_ratio, keep_ratio_largest or center_crop; dashes may stand for underscores.
        resize_only_if_bigger: never enlarge: smaller pictures keep their size.
        encode_format: jpg, png or webp.
        encode_quality: 1 to 100 for jpg and webp, compression 0 to 9 for png; None for 95, 95 and 6.
        max_image_pixels: pictures with more pixels than this, before or after, are refused.
        downscale_interpolation: ``auto``, or one of ``policies.resize.FILTERS``.
        upscale_interpolation: one of ``policies.resize.FILTERS``.
        background: what stands behind transparency in jpg, and round a picture in border: a name or #rrggbb.
        accept_formats: extensions of what is decoded, some of ``sniff.DECODABLE``.
        min_image_size: pictures with a shorter side are left out.
        max_image_area: pictures with more pixels are left out.
        max_aspect_ratio: pictures of which a side is longer than so many times the other are left out.
        skip_reencode: pictures that have the format and the size already pass through unchanged.
        bbox_col: the column that holds boxes to blur, see ``transforms.blur``; None for none.
        metadata: ``strip`` leaves EXIF out of the result, ``keep`` has it there without where it was taken,
            ``keep-gps`` with.
        animated: ``first`` takes the first frame or page of several, ``refuse`` leaves such pictures out.
        extract_exif: have EXIF in the row's fields.

    Raises:
        UsageError: from construction: a value is out of range; the message says what is possible.
    """

    image_size: int | tuple[int, ...] = 256
    resize_mode: str = "border"
    resize_only_if_bigger: bool = False
    encode_format: str = "jpg"
    encode_quality: int | None = None
    max_image_pixels: int = 100_000_000
    downscale_interpolation: str = AUTO
    upscale_interpolation: str = "lanczos"
    background: str = "white"
    accept_formats: tuple[str, ...] = ACCEPTED
    min_image_size: int = 0
    max_image_area: float = math.inf
    max_aspect_ratio: float = math.inf
    skip_reencode: bool = False
    bbox_col: str | None = None
    metadata: str = "strip"
    animated: str = "first"
    extract_exif: bool = True

    inline: ClassVar[bool] = False
    prints: ClassVar[bool] = True
    adds: ClassVar[frozenset[str]] = frozenset(
        {"original_format", "original_mode", "output_sha256", "dhash", "decoder_warnings"}
    )
    preload: ClassVar[tuple[str, ...]] = ("scraper.transforms.pixels",)

    def __post_init__(self) -> None:
        sizes = (self.image_size,) if isinstance(self.image_size, int) else tuple(self.image_size)
        mode = self.resize_mode.replace("-", "_")
        object.__setattr__(self, "image_size", sizes)
        object.__setattr__(self, "resize_mode", mode)
        for name in ("downscale_interpolation", "upscale_interpolation"):
            object.__setattr__(self, name, SAME.get(getattr(self, name), getattr(self, name)))
        _one_of(RESIZE_MODES, mode, "--resize-mode")
        _one_of(ENCODE_FORMATS, self.encode_format, "--encode-format")
        _one_of((AUTO, *FILTERS), self.downscale_interpolation, "--downscale-interpolation")
        _one_of(FILTERS, self.upscale_interpolation, "--upscale-interpolation")
        formats = tuple({"jpeg": "jpg", "tif": "tiff"}.get(each, each) for each in self.accept_formats)
        object.__setattr__(self, "accept_formats", formats)
        for each in formats:
            _one_of(_MAY_BE_ACCEPTED, each, "--accept-formats")
        if not self.accept_formats:
            raise UsageError("--accept-formats must name a format.")
        if not sizes or min(sizes) < 1:
            raise UsageError("--image-size must be at least 1.")
        if len(set(sizes)) < len(sizes) or (len(sizes) > 1 and mode == "no"):
            raise UsageError("--image-size has one size twice, or several with --resize-mode no, which uses none.")
        if self.max_image_pixels < 1:
            raise UsageError("--max-image-pixels must be at least 1.")
        if self.min_image_size < 0 or not self.max_image_area >= 1 or not self.max_aspect_ratio >= 1:
            raise UsageError(
                "--min-image-size must be 0 or more, --max-image-area and --max-aspect-ratio must be 1 or more."
            )
        _one_of(METADATA, self.metadata, "--metadata")
        _one_of(ANIMATED, self.animated, "--animated")
        _rgb(self.background)
        self._check_quality()

    def _check_quality(self) -> None:
        least, most, default = _QUALITY[self.encode_format]
        if self.encode_quality is None:
            object.__setattr__(self, "encode_quality", default)
        elif not least <= self.encode_quality <= most:
            what = "the compression level" if self.encode_format == "png" else "a quality"
            raise UsageError(
                f"--encode-quality is {what} from {least} to {most} for {self.encode_format}, "
                f"not {self.encode_quality}; leave it out for {default}."
            )

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the list that must travel with the row for this."""
        return frozenset() if self.bbox_col is None else frozenset({self.bbox_col})

    def warm_up(self) -> None:
        """Load Pillow, its plugins and the codecs behind them."""
        from scraper.transforms import codecs

        codecs.warm_up(self.encode_format)

    def __call__(self, response: Response) -> Sequence[Item]:
        """The pictures, one for each size, the first of which has all the fields.

        They are img2dataset's: width, height, original_width and original_height (of the upright picture, as
        people see it), and exif (JSON text, or None); and ours: original_format, original_mode,
        output_sha256, dhash (``transforms.prints``) and decoder_warnings (text, or None).

        Raises:
            TransformFailed: image.not_image, image.format, image.truncated, image.decode or image.bomb; filtered.*
                for what is not wanted.
        """
        from scraper.transforms import blur, pixels

        assert isinstance(self.image_size, tuple)
        kind = _accepted(response.body, self.accept_formats)
        settings = pixels.Settings(
            sizes=self.image_size,
            mode=self.resize_mode,
            format=self.encode_format,
            quality=self.encode_quality or 0,
            max_pixels=self.max_image_pixels,
            only_if_bigger=self.resize_only_if_bigger,
            downscale=self.downscale_interpolation,
            upscale=self.upscale_interpolation,
            background=_rgb(self.background),
            min_side=self.min_image_size,
            max_area=self.max_image_area,
            max_aspect=self.max_aspect_ratio,
            skip_reencode=self.skip_reencode,
            metadata=self.metadata,
            animated=self.animated,
            extract_exif=self.extract_exif,
        )
        boxes: Sequence[blur.Box] = ()
        if self.bbox_col is not None:
            boxes = blur.boxes_of(response.request.columns.get(self.bbox_col, "missing"), self.bbox_col)
        rendered = pixels.render(response.body, kind, settings, boxes)
        first, *others = rendered.pictures
        fields: dict[str, object] = {
            "width": first.width,
            "height": first.height,
            "original_width": rendered.width,
            "original_height": rendered.height,
            "exif": rendered.exif,
            "original_format": kind.extension,
            "original_mode": rendered.mode,
            "output_sha256": hashlib.sha256(first.data).hexdigest(),
            "dhash": rendered.dhash,
            "decoder_warnings": "; ".join(rendered.remarks) or None,
        }
        return [
            Item(first.data, self.encode_format, fields),
            *(
                Item(each.data, f"{size}.{self.encode_format}", {"width": each.width, "height": each.height})
                for each, size in zip(others, self.image_size[1:], strict=True)
            ),
        ]


def _one_of(choices: Sequence[str], value: str, option: str) -> None:
    if value not in choices:
        raise UsageError(f"{option} is one of {', '.join(choices)}, not {value!r}.")


def _rgb(colour: str) -> tuple[int, int, int]:
    """A colour as one types it → red, green and blue, 0 to 255.

    Raises:
        UsageError: it is none.
    """
    name = colour.strip().lower()
    if name in _COLOURS:
        return _COLOURS[name]
    found = _HEX.fullmatch(name)
    if found is None:
        raise UsageError(f"--background is {', '.join(_COLOURS)} or #rrggbb, not {colour!r}.")
    digits = found[1] if len(found[1]) == 6 else "".join(2 * digit for digit in found[1])
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def _accepted(body: bytes | memoryview, formats: Collection[str]) -> Kind:
    """What the body is, if it is one of the formats that are decoded."""
    kind = sniff(body)
    if kind is not None and kind.extension in formats:
        return kind
    if kind is None:
        what = f"{len(body)} bytes of no known format" if len(body) else "empty"
        raise TransformFailed("image.not_image", f"The body is {what}.")
    if kind.extension in DECODABLE:
        raise TransformFailed("filtered.type", f"The body is {kind.label}, which --accept-formats leaves out.")
    if kind.is_image:
        raise TransformFailed("image.format", f"The body is {kind.label}, which is not accepted.")
    raise TransformFailed("image.not_image", f"The body is {kind.label}, not a picture.")
