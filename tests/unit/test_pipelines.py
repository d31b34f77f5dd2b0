"""The ready-made pipelines, as a program builds them and as the command line finds them."""

from __future__ import annotations

import pickle
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines import files, images
from scraper import FilesOutput, ImageTransform, Pipeline, RawTransform, UsageError, WebdatasetOutput
from scraper.options import found


def test_images_by_default() -> None:
    """Nothing said: img2dataset's defaults, written as files."""
    pipeline = images.build()
    assert pipeline.transform == ImageTransform()
    assert pipeline.open_sink == FilesOutput()
    assert (pipeline.name, pipeline.accept_encoding) == ("images", "identity")


def test_every_option_of_images_reaches_the_pipeline() -> None:
    """No option is parsed and ignored, and each is in the settings that guard a resumed output."""
    said: dict[str, Any] = {
        "image_size": 64, "resize_mode": "keep-ratio", "resize_only_if_bigger": True, "encode_format": "webp",
        "encode_quality": 80, "max_image_pixels": 1000, "output_format": "webdataset",
        "number_sample_per_shard": 7, "downscale_interpolation": "area", "upscale_interpolation": "linear",
        "background": "#123", "accept_formats": ("png", "gif"), "min_image_size": 5, "max_image_area": 900.0,
        "max_aspect_ratio": 3.5, "skip_reencode": True, "bbox_col": "faces",
        "animated": "refuse", "metadata": "keep", "extract_exif": False,
    }  # fmt: skip
    pipeline = images.build(**said)
    of_the_output = ("output_format", "number_sample_per_shard")
    assert pipeline.transform == ImageTransform(**{name: said[name] for name in said if name not in of_the_output})
    assert {each.name for each in fields(ImageTransform)} == said.keys() - set(of_the_output)
    assert pipeline.open_sink == WebdatasetOutput(rows_per_shard=7)
    assert dict(pipeline.settings) == {**said, "resize_mode": "keep_ratio", "name": None}


def test_the_default_quality_is_the_same_job_as_saying_it() -> None:
    """A run may be resumed with the default spelt out."""
    assert images.build().settings == images.build(encode_quality=95).settings


def test_files_keep_the_bytes() -> None:
    """The bytes as they came, in either output."""
    assert files.build().transform == RawTransform()
    assert files.build(output_format="webdataset").open_sink == WebdatasetOutput()


def test_settings_go_over_options() -> None:
    """build(options, **settings): the keyword is the stronger."""
    pipeline = images.build(images.Options(image_size=10, encode_quality=50), image_size=20)
    assert (pipeline.settings["image_size"], pipeline.settings["encode_quality"]) == (20, 50)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_sise": 1}, "There is no option 'image_sise'; did you mean image-size?"),
        ({"image_size": 0}, "--image-size must be at least 1"),
        ({"resize_mode": "stretch"}, "resize_mode is one of"),
        ({"encode_quality": 200}, "--encode-quality is a quality from 1 to 100"),
        (
            {"output_format": "webdataset", "number_sample_per_shard": 0},
            "number-sample-per-shard must be at least 1",
        ),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    """One sentence, before anything is fetched."""
    with pytest.raises(UsageError, match=sentence):
        images.build(**settings)


@pytest.mark.parametrize("pipeline", [images.build(), files.build(output_format="webdataset")])
def test_a_pipeline_travels_to_another_process(pipeline: Pipeline) -> None:
    """Transform and sink factory are picklable."""
    assert pickle.loads(pickle.dumps((pipeline.transform, pipeline.open_sink))) == (
        pipeline.transform,
        pipeline.open_sink,
    )


def test_ours_come_by_the_door_that_is_open_to_all() -> None:
    """The entry points of this distribution name the two modules."""
    assert {name: entry.value for name, entry in found.installed().items()} == {
        "files": "pipelines.files",
        "images": "pipelines.images",
    }
    loaded = found.load("images")
    assert (loaded.options, loaded.summary[:17]) == (images.Options, "Download pictures")


def _installed(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    """Pretend that these are the installed pipelines."""
    listed = [EntryPoint(name, value, found.GROUP) for name, value in entries]
    monkeypatch.setattr(found, "entry_points", lambda group: listed)


def test_an_unknown_pipeline_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that was probably meant is given."""
    _installed(monkeypatch, ("images", "pipelines.images"))
    with pytest.raises(UsageError, match="There is no pipeline 'image'; did you mean images"):
        found.load("image")


def test_a_broken_package_is_told_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's module that does not load, or is no pipeline, is named; nothing is traced back."""
    _installed(monkeypatch, ("odd", "no_such_module_anywhere"), ("empty", "json"))
    with pytest.raises(UsageError, match=r"'odd' \(no_such_module_anywhere\) cannot be loaded: No module"):
        found.load("odd")
    with pytest.raises(UsageError, match=r"'empty' \(json\) lacks an Options dataclass or a build"):
        found.load("empty")


def test_two_packages_may_not_claim_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one was meant is not guessed; the same one found twice is no conflict."""
    _installed(monkeypatch, ("images", "pipelines.images"), ("images", "pipelines.images"))
    assert list(found.installed()) == ["images"]
    _installed(monkeypatch, ("images", "pipelines.images"), ("images", "theirs"))
    with pytest.raises(UsageError, match="Two installed packages have a pipeline 'images'"):
        found.installed()


def test_pipelines_have_modules_with_a_summary() -> None:
    """The help has a line for each."""
    modules: list[ModuleType] = [images, files]
    assert all(module.__doc__ and Path(str(module.__file__)).stem in found.installed() for module in modules)
