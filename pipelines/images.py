"""Download pictures, resize them, write them as files or WebDataset shards, or list what they are.

In: what is to become of each picture. Out: a Pipeline. Option names are img2dataset's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from scraper import ImageTransform, OutputFormat, Pipeline, filled, option, output_of

DEFAULT_NAME = "{folder}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What becomes of each picture, and where it goes.

    Attributes:
        image_size: Pixels of the side that resize-mode names.
        resize_mode: no keeps the size; keep_ratio brings the shorter side to image-size, keep_ratio_largest the
            longer one; center_crop cuts a square; border fills up to a square with white.
        resize_only_if_bigger: Leave smaller pictures at their size.
        encode_format: Format to write.
        encode_quality: Quality of jpg and webp, 1 to 100; of png, how hard to compress, 0 to 9.
        max_image_pixels: Pictures whose header claims more pixels are refused before they are decoded.
        output_format: files for one file a picture, webdataset for tar shards, jsonl for what is known of each
            picture, without the pictures.
        number_sample_per_shard: Rows to a shard, in webdataset.
        name: What files are called, in files, without the extension: words, / for folders, and the fields {row},
            {key}, {folder}, {host}, {path}, {stem}, {filename}, {ext}, {caption} and {column:NAME}.
    """

    image_size: int = ImageTransform.image_size
    resize_mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = "border"
    resize_only_if_bigger: bool = ImageTransform.resize_only_if_bigger
    encode_format: Literal["jpg", "png", "webp"] = "jpg"
    encode_quality: int | None = option(None, shown="95; 6 for png")
    max_image_pixels: int = ImageTransform.max_image_pixels
    output_format: OutputFormat = "files"
    number_sample_per_shard: int = 10_000
    name: str | None = option(None, shown=DEFAULT_NAME)


def build(options: Options | None = None, /, **settings: Any) -> Pipeline:
    """The pipeline; ``settings`` are the fields of Options by name, over ``options`` where both are given.

    Raises:
        UsageError: a setting does not exist, or is out of range.
    """
    said = filled(Options, options, settings)
    transform = ImageTransform(
        image_size=said.image_size,
        resize_mode=said.resize_mode,
        resize_only_if_bigger=said.resize_only_if_bigger,
        encode_format=said.encode_format,
        encode_quality=said.encode_quality,
        max_image_pixels=said.max_image_pixels,
    )
    name = None if said.name == DEFAULT_NAME else said.name
    return Pipeline(
        name="images",
        transform=transform,
        open_sink=output_of(said.output_format, said.number_sample_per_shard, name),
        # As they are used: saying nothing and saying the default are the same job.
        settings={**asdict(said), "encode_quality": transform.encode_quality, "name": name},
        accept="image/avif,image/webp,image/*,*/*;q=0.8",
        # Pictures are compressed already: asking for more costs the server time and us a decoder.
        accept_encoding="identity",
    )
