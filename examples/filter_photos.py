"""Keep the pictures you want: a function of your own in a run of `scraper images`.

    scraper origin                       # in a terminal of its own: photographs to try this on
    cd examples
    scraper images filter_photos.csv -o ../bright --allow-net 127.0.0.0/8 \
        --save-additional-columns licence --transform filter_photos:bright

What a function is given and what it may answer: docs/transforms.md.
"""

from __future__ import annotations

import io

from PIL import Image, ImageStat

from scraper import Sample

DARK = 90
"""Mean grey, of 255, below which a picture is left out."""


def bright(sample: Sample) -> bool | str:
    """Keep landscape pictures that may be used and are not too dark."""
    if sample.columns["licence"] not in ("CC0", "CC-BY"):
        return "licence"
    fields = sample.item.fields
    if fields["original_width"] < fields["original_height"]:
        return "upright"
    with Image.open(io.BytesIO(sample.item.data)) as picture:
        grey = ImageStat.Stat(picture.convert("L")).mean[0]
    return grey >= DARK or "too dark"
