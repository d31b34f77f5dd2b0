"""Download pictures, resize them, write them as files or WebDataset shards, or list what they are.

In: what is to become of each picture. Out: a Pipeline. Option names are img2dataset's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scraper import ImageTransform, OutputFormat, Pipeline, filled, option, output_of

_Filter = Literal["nearest", "area", "linear", "hamming", "bicubic", "lanczos", "bilinear", "cubic", "lanczos4"]

DEFAULT_NAME = "{folder}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What becomes of each picture, and where it goes.

    Attributes:
        image_size: Pixels of the side that resize-mode names. Several, as in 256,1024, make a picture each.
        resize_mode: no keeps the size; keep_ratio brings the shorter side to image-size, keep_ratio_largest the
            longer one; center_crop cuts a square; border fills up to a square with background.
        resize_only_if_bigger: Leave smaller pictures at their size.
        downscale_interpolation: Filter that makes pictures smaller. auto looks as good as lanczos and costs less.
        upscale_interpolation: Filter that makes pictures larger.
        background: Colour behind transparency, where the format has none, and round pictures in border: white,
            black, grey or #rrggbb.
        encode_format: Format to write.
        encode_quality: Quality of jpg and webp, 1 to 100; of png, how hard to compress, 0 to 9.
        skip_reencode: Pass pictures through unchanged that have the format and the size already.
        bbox_col: Column of boxes to blur, such as faces: [[left, upper, right, lower], ...] from 0 to 1.
        accept_formats: Formats that are decoded, by content: a,b or repeated. Others end as filtered.type.
        animated: first takes the first frame or page of several; refuse leaves such pictures out.
        metadata: Whether the result has the EXIF of its original: strip leaves it out, keep has it but for where
            it was taken, keep-gps with that.
        extract_exif: Have EXIF in the column exif.
        min_image_size: Leave out pictures whose shorter side has fewer pixels.
        max_image_area: Leave out pictures with more pixels.
        max_aspect_ratio: Leave out pictures one side of which is longer than so many times the other.
        max_image_pixels: Pictures whose header claims more pixels are refused before they are decoded.
        output_format: files for one file a picture, webdataset for tar shards, jsonl for what is known of each
            picture, without the pictures.
        number_sample_per_shard: Rows to a shard, in webdataset.
        name: What files are called, in files, without the extension: words, / for folders, and the fields {row},
            {key}, {folder}, {host}, {path}, {stem}, {filename}, {ext}, {caption} and {column:NAME}.
    """

    image_size: tuple[int, ...] = option((256,), split=True)
    resize_mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = "border"
    resize_only_if_bigger: bool = ImageTransform.resize_only_if_bigger
    downscale_interpolation: Literal["auto", _Filter] = "auto"
    upscale_interpolation: _Filter = "lanczos"
    background: str = ImageTransform.background
    encode_format: Literal["jpg", "png", "webp"] = "jpg"
    encode_quality: int | None = option(None, shown="95; 6 for png")
    skip_reencode: bool = ImageTransform.skip_reencode
    bbox_col: str | None = None
    accept_formats: tuple[str, ...] = option(ImageTransform.accept_formats, split=True)
    animated: Literal["first", "refuse"] = "first"
    metadata: Literal["strip", "keep", "keep-gps"] = "strip"
    extract_exif: bool = ImageTransform.extract_exif
    min_image_size: int = ImageTransform.min_image_size
    max_image_area: float = option(ImageTransform.max_image_area, shown="no bound")
    max_aspect_ratio: float = option(ImageTransform.max_aspect_ratio, shown="no bound")
    max_image_pixels: int = ImageTransform.max_image_pixels
    output_format: OutputFormat = "files"
    number_sample_per_shard: int = 10_000
    name: str | None = option(None, shown=DEFAULT_NAME)


_ALWAYS = frozenset(
    {"resize_mode", "resize_only_if_bigger", "encode_format", "max_image_pixels", "output_format"}
    | {"number_sample_per_shard"}
)
"""Settings that every output has on record. The others came later: an output without them has their defaults."""

_OF_THE_OUTPUT = ("output_format", "number_sample_per_shard", "name")


def _accept(formats: Sequence[str]) -> str:
    """The Accept header: formats that servers give only to those who name them, if they are wanted."""
    named = [f"image/{each}" for each in ("avif", "webp") if each in formats]
    return ",".join([*named, "image/*", "*/*;q=0.8"])


def build(options: Options | None = None, /, **settings: Any) -> Pipeline:
    """The pipeline; ``settings`` are the fields of Options by name, over ``options`` where both are given.

    Raises:
        UsageError: a setting does not exist, or is out of range.
    """
    said = filled(Options, options, settings)
    values = asdict(said)
    transform = ImageTransform(**{name: values[name] for name in values if name not in _OF_THE_OUTPUT})
    values |= {name: getattr(transform, name) for name in values if name.endswith("_interpolation")}
    name = None if said.name == DEFAULT_NAME else said.name
    sizes = said.image_size if len(said.image_size) > 1 else said.image_size[0]
    return Pipeline(
        name="images",
        transform=transform,
        open_sink=output_of(said.output_format, said.number_sample_per_shard, name),
        # As they are used: saying nothing and saying the default are the same job.
        settings={
            **{
                each: value
                for each, value in values.items()
                if each in _ALWAYS or value != getattr(Options(), each)
            },
            "image_size": sizes,
            "encode_quality": transform.encode_quality,
            "name": name,
        },
        accept=_accept(said.accept_formats),
        # Pictures are compressed already: asking for more costs the server time and us a decoder.
        accept_encoding="identity",
    )
