"""What the user says of duplicates and digests, the transforms that are put round another, and the dHash."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from pipelines import files, images
from scraper.config_results import DedupeConfig, HashConfig
from scraper.errors import TransformFailed, UsageError
from scraper.options import from_settings
from scraper.origin import scenes
from scraper.protocols import Transform
from scraper.records import Item, Response
from scraper.shaping import shaped, with_columns
from scraper.testing.transform import TransformContract, response
from scraper.transforms.hashes import Hashed
from scraper.transforms.prints import dhash
from scraper.transforms.raw import RawTransform
from scraper.transforms.user import Sample, UserTransform, name_of


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ("url", DedupeConfig()),
        ("none", DedupeConfig(url=False)),
        ("content", DedupeConfig(url=False, content=True)),
        ("url, content,perceptual", DedupeConfig(content=True, perceptual=0)),
        (["url", "perceptual:4"], DedupeConfig(perceptual=4)),
    ],
)
def test_kinds_of_duplicates(said: object, config: DedupeConfig) -> None:
    """A list, joined by commas or not, of what is compared; it is written down in one way."""
    assert from_settings({"dedupe": said}).dedupe == config
    assert from_settings({"dedupe": config.text}).dedupe == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dedupe": "contents"}, "none of them. Did you mean content?"),
        ({"dedupe": "none,url"}, "none stands alone"),
        ({"dedupe": "content:3"}, "only perceptual takes a number"),
        ({"dedupe": "perceptual:far"}, "only perceptual takes a number"),
        ({"dedupe": "perceptual:9"}, "0 to 8 bits, not 9"),
        ({"duplicates": "mark"}, "add --dedupe content"),
        ({"verify_hash": "a:md6"}, "as COL:md5; there is md5, sha1, sha256, sha512"),
        ({"verify_hash": ["a", "md5", "b"]}, "wants a column of the list"),
        ({"verify_hash": ":md5"}, "wants a column of the list"),
    ],
)
def test_slips_are_explained(settings: dict[str, object], sentence: str) -> None:
    """One sentence, with what there is."""
    with pytest.raises(UsageError) as caught:
        from_settings(settings)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("said", "config"),
    [
        ("digest", HashConfig("digest")),
        ("digest:SHA1", HashConfig("digest", "sha1")),
        ('["md5","md5"]', HashConfig("md5", "md5")),
        (["sha256", "sha256"], HashConfig("sha256", "sha256")),
        ("None", HashConfig()),
    ],
)
def test_columns_of_digests(said: object, config: HashConfig) -> None:
    """As typed here and as img2dataset has it; the column travels without being named again."""
    found = from_settings({"verify_hash": said, "save_additional_columns": "a"})
    assert found.hashes == config
    assert found.source.save_additional_columns == (("a", config.column) if config.column else ("a",))
    assert found.source.hash_col == config.column


def test_only_what_was_chosen_is_kept_with_the_output() -> None:
    """Outputs that were made before there was a choice go on."""
    bare = shaped(files.build(), from_settings({}))
    assert bare == files.build()
    chosen = shaped(
        images.build(), from_settings({"dedupe": "perceptual", "duplicates": "mark", "verify_hash": "a:md5"})
    )
    assert {name: chosen.settings[name] for name in ("dedupe", "duplicates", "verify_hash")} == {
        "dedupe": "perceptual:0", "duplicates": "mark", "verify_hash": "a:md5",
    }  # fmt: skip
    with pytest.raises(UsageError, match="leave out the list's own"):
        shaped(
            images.build(),
            from_settings({"dedupe": "content", "duplicates": "mark", "save_additional_columns": "duplicate_of"}),
        )


# ---- transforms round another --------------------------------------------------------------------------------

BODY = b"the body"


def keep(sample: Sample) -> Sequence[Item]:
    """Answers with other items."""
    return [replace(sample.item, fields={"bytes": len(sample.body)}), *sample.items]


def unlike(sample: Sample) -> object:
    """Answers as numpy's comparisons do."""
    return type("bool_", (), {"__module__": "numpy", "item": lambda self: sample.row == 0})()


class TestHashed(TransformContract):
    """A transform whose bodies are checked is a transform."""

    def make(self) -> Transform:
        """One that checks and adds a digest."""
        return Hashed(RawTransform(), HashConfig("digest", "md5", "sha512"))

    def good_response(self) -> Response:
        """One with the right digest."""
        good = response(BODY)
        return replace(good, request=replace(good.request, columns={"digest": hashlib.md5(BODY).hexdigest()}))


class TestUserTransform(TransformContract):
    """A transform with the user's function behind it is a transform."""

    def make(self) -> Transform:
        """One that answers with items."""
        return UserTransform(RawTransform(), f"{__name__}:keep", ".")

    def good_response(self) -> Response:
        """Anything."""
        return response(BODY)


def test_truth_values_of_numpy_count() -> None:
    """``array.mean() > 3`` is no bool, and is meant as one."""
    transform = UserTransform(RawTransform(), f"{__name__}:unlike", ".")
    assert len(transform(response(BODY))) == 1
    with pytest.raises(TransformFailed) as caught:
        transform(response(BODY, row=1))
    assert caught.value.class_ == "filtered.function"


def test_what_a_function_makes_of_an_item_is_told_truly() -> None:
    """Other data has another digest; a field that is a column of the row's own would be lost, and is refused."""

    class Digested:
        inline = True

        def warm_up(self) -> None:
            """Nothing."""

        def __call__(self, given: Response) -> Sequence[Item]:
            """An item that tells its digest."""
            return [Item(BODY, "bin", {"output_sha256": hashlib.sha256(BODY).hexdigest()})]

    globals()["change"] = lambda sample: replace(sample.item, data=b"other")
    globals()["caption"] = lambda sample: replace(sample.item, fields={"caption": "a cat"})
    (item,) = UserTransform(Digested(), f"{__name__}:change", ".")(response(BODY))
    assert item.fields["output_sha256"] == hashlib.sha256(b"other").hexdigest()
    with pytest.raises(TransformFailed, match="sets the field 'caption', which is a column of the row's own"):
        UserTransform(Digested(), f"{__name__}:caption", ".")(response(BODY))


def test_columns_of_ours_are_not_the_lists() -> None:
    """A list may not bring what the output finds out itself; boxes to blur travel unasked."""
    for name in ("dhash", "output_sha256", "md5"):
        settings = from_settings({"save_additional_columns": name, "compute_hash": "md5"})
        with pytest.raises(UsageError, match=f"--save-additional-columns cannot take {name}"):
            shaped(images.build(), settings)
    travels = with_columns(images.build(bbox_col="faces"), from_settings({"save_additional_columns": "a"})).source
    assert travels.save_additional_columns == ("a", "faces")


def test_what_a_function_is_given_may_be_kept() -> None:
    """Bytes of its own, whatever memory the body lies in; what it lets pass is handed on without a copy."""
    memory = bytearray(BODY)
    given = response(memoryview(memory).toreadonly())
    kept: list[Sample] = []
    globals()["note"] = lambda sample: kept.append(sample) or True
    UserTransform(RawTransform(), f"{__name__}:note", ".")(given)
    memory[:] = b"\0" * len(BODY)
    assert (kept[0].body, kept[0].item.data) == (BODY, BODY)


def test_functions_have_names() -> None:
    """A function goes by its module and name; one inside another has none that a worker could find."""
    assert name_of(keep) == f"{__name__}:keep"
    assert name_of("a:b") == "a:b"

    def inner(sample: Sample) -> bool:
        return True

    for nameless in (inner, lambda sample: True, 5):
        with pytest.raises(UsageError, match="cannot be found by worker processes"):
            name_of(nameless)


# ---- the print -----------------------------------------------------------------------------------------------


def bits(one: str, other: str) -> int:
    """In how many two prints differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_a_print_says_where_it_grows_lighter() -> None:
    """Row by row from the top left, highest bit first; grey, colour, palette and 1-bit pictures alike."""
    ramp = Image.linear_gradient("L").rotate(90)  # lighter to the right
    assert dhash(ramp) == "f" * 16
    assert dhash(ramp.rotate(180)) == "0" * 16
    assert dhash(Image.new("RGB", (50, 40), "red")) == "0" * 16
    half = Image.new("L", (90, 80))
    half.paste(ramp.resize((90, 40)), (0, 40))
    assert (dhash(half)[:6], dhash(half)[8:]) == ("0" * 6, "f" * 8)
    for mode in ("RGB", "P", "RGBA", "LA", "CMYK"):
        assert bits(dhash(half.convert(mode)), dhash(half)) <= 1


def test_a_print_is_the_same_in_every_release() -> None:
    """Outputs of different days are compared by it: these are the prints of the first release."""
    speckled = Image.new("RGB", (90, 60))
    speckled.putdata(
        [((x * 37 + y * 11) % 256, (x * x // 7 + y * 5) % 256, x * y % 256) for y in range(60) for x in range(90)]
    )
    fractal = Image.effect_mandelbrot((200, 150), (-2, -1, 1, 1), 60)
    assert (dhash(speckled), dhash(fractal)) == ("ebe8ccd496326be9", "78f4e68686e6f478")


def test_what_shines_through_is_white() -> None:
    """Colours of transparent pixels, which nobody sees, do not count."""
    ramp = Image.linear_gradient("L").rotate(90)
    clear = Image.merge("LA", (ramp, Image.new("L", ramp.size, 0)))
    assert dhash(clear) == "0" * 16


def test_a_print_outlives_resizing_and_encoding() -> None:
    """The same scene, smaller and in another format, is within four bits; other scenes are far."""
    prints = {}
    for name in ("a/1", "b/2", "c/3"):
        picture = scenes.paint(name, (320, 240), 7)
        file = io.BytesIO()
        picture.resize((200, 150)).save(file, "JPEG", quality=50)
        prints[name] = dhash(picture)
        assert bits(prints[name], dhash(Image.open(file))) <= 4
    one, other, third = prints.values()
    assert min(bits(one, other), bits(other, third), bits(one, third)) > 8
