"""Pictures that look like photographs: a seed and a size in, an RGB image out.

Eight kinds of scene, each with its own weather, light and lie of the land by the seed. Must never
paint anything that differs between machines: see ``brush``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from scraper.origin.brush import (
    Colour,
    Dice,
    Point,
    below,
    contrast,
    disc,
    glow,
    gradient,
    lens,
    mix,
    noise,
    ridge,
    scaled,
    soft_edge,
    tinted,
)

Size = tuple[int, int]

SKIES: dict[str, tuple[Colour, ...]] = {
    "noon": ((38, 98, 178), (92, 152, 214), (186, 214, 236)),
    "morning": ((74, 118, 178), (158, 184, 206), (250, 224, 188)),
    "golden": ((58, 86, 140), (214, 158, 112), (255, 204, 110)),
    "sunset": ((40, 36, 92), (166, 66, 108), (246, 128, 62), (255, 206, 112)),
    "violet": ((34, 30, 74), (104, 74, 146), (224, 138, 164), (255, 206, 182)),
    "storm": ((48, 56, 70), (98, 108, 120), (168, 172, 170)),
    "overcast": ((142, 156, 170), (184, 194, 202), (222, 224, 222)),
    "dusk": ((14, 24, 58), (52, 64, 118), (198, 112, 98)),
    "night": ((6, 10, 34), (18, 36, 84), (66, 92, 140)),
}
"""Sky colours, zenith to horizon."""


def paint(seed: str, size: Size, grain: int) -> Image.Image:
    """Paint the scene that belongs to a seed.

    Args:
        seed: any text; the same text paints the same picture.
        size: pixels across and down.
        grain: camera noise in percent; it decides how many bytes the encoded picture has.
    """
    dice = Dice(seed)
    kind = KINDS[int(seed.rpartition("/")[2]) % len(KINDS)]
    return lens(dice, kind(dice, size), grain)


def _sky(dice: Dice, size: Size, mood: str, clouds: int) -> Image.Image:
    stops = SKIES[mood]
    picture = gradient(size, stops)
    if clouds:
        puffs = noise(dice, size, (dice.between(2, 4), dice.between(4, 8)), 6)
        mask = scaled(contrast(puffs, 215 - clouds, 290 - clouds // 3), 82)
        lit = mix(stops[-1], (255, 255, 255), 55 if mood != "night" else 5)
        shade = mix(stops[0], stops[-1], 55)
        picture.paste(tinted(noise(dice, size, (3, 6), 4), shade, lit), (0, 0), mask)
    return picture


def _sun(dice: Dice, picture: Image.Image, horizon: int, mood: str) -> tuple[int, int]:
    width, _ = picture.size
    low = mood in {"sunset", "golden", "violet", "morning"}
    at = (dice.between(width // 6, width * 5 // 6), horizon - horizon * dice.between(6, 22) // 100)
    if not low:
        at = (at[0], horizon * dice.between(15, 35) // 100)
    warm = mix(SKIES[mood][-1], (255, 250, 220), 60)
    glow(picture, at, width * 45 // 100, SKIES[mood][-1], 55)
    glow(picture, at, width * 14 // 100, warm, 80)
    disc(picture, at, width // dice.between(34, 48), (255, 252, 236), max(1, width // 300))
    return at


def _land(dice: Dice, size: Size, dark: Colour, light: Colour) -> Image.Image:
    """Textured ground: broad patches with fine detail over them."""
    patches = noise(dice, size, (5, 9), 3)
    detail = noise(dice, size, (size[0] // 16, size[1] // 9), 4)
    return tinted(Image.blend(patches, detail, 0.55), dark, light)


def _ground(dice: Dice, picture: Image.Image, line: Sequence[Point], dark: Colour, light: Colour) -> None:
    """Lay textured ground under a skyline."""
    width, height = picture.size
    top = max(0, min(y for _, y in line) - 2)
    if top >= height:
        return
    size = (width, height - top)
    picture.paste(_land(dice, size, dark, light), (0, top), below(size, [(x, y - top) for x, y in line]))


def _ranges(dice: Dice, picture: Image.Image, horizon: int, colours: tuple[Colour, Colour], rough: int) -> None:
    """Ranges of hills one behind the other, the far ones veiled by air."""
    width, height = picture.size
    layers = dice.between(3, 5)
    air = picture.getpixel((width // 2, max(0, horizon - height // 40)))
    assert isinstance(air, tuple)
    for layer in range(layers):
        near = layer * 100 // max(1, layers - 1)
        veil = 72 - near * 62 // 100
        dark, light = (mix(colour, (air[0], air[1], air[2]), veil) for colour in colours)
        base = horizon + (height - horizon) * layer * 17 // (layers * 20)
        line = ridge(dice, width, base, height * dice.between(7, 12) // 100, rough)
        _ground(dice, picture, line, dark, light)


def _hills(dice: Dice, size: Size) -> Image.Image:
    mood = dice.pick(("noon", "morning", "golden", "sunset", "storm"))
    picture = _sky(dice, size, mood, dice.between(60, 120))
    horizon = size[1] * dice.between(42, 58) // 100
    if mood != "storm":
        _sun(dice, picture, horizon, mood)
    greens = dice.pick(
        (
            ((18, 40, 16), (126, 156, 62)),
            ((34, 44, 14), (186, 176, 76)),
            ((40, 30, 16), (206, 132, 58)),
            ((14, 38, 30), (92, 142, 88)),
        )
    )
    _ranges(dice, picture, horizon, greens, 46)
    return picture


def _peaks(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    mood = dice.pick(("noon", "morning", "violet", "overcast", "golden"))
    picture = _sky(dice, size, mood, dice.between(40, 100))
    horizon = height * dice.between(40, 50) // 100
    shore = height * dice.between(66, 74) // 100
    rock = mix((58, 62, 76), SKIES[mood][0], 30)
    snow = mix((250, 250, 255), SKIES[mood][-1], 25)
    for layer in range(2):
        line = ridge(dice, width, horizon + layer * height // 9, height * (26 - 6 * layer) // 100, 54)
        top = max(0, min(y for _, y in line) - 2)
        area = (width, shore - top)
        facets = noise(dice, area, (13 + 6 * layer, 5 + layer), 6)
        # Snow lies high and rock shows low: tilt the noise by height before it is cut in two.
        tilt = ImageChops.invert(Image.linear_gradient("L")).resize(area)
        shade = contrast(Image.blend(facets, tilt, 0.45), 104, 182)
        veil = 35 - 25 * layer
        stone = tinted(shade, mix(rock, SKIES[mood][-1], veil), mix(snow, SKIES[mood][-1], veil))
        picture.paste(stone, (0, top), below(area, [(x, y - top) for x, y in line]))
    _lake(dice, picture, shore)
    pines = ridge(dice, width, shore - height // 60, height // 60, 60)
    bank = picture.crop((0, 0, width, shore))
    _ground(dice, bank, pines, (10, 20, 18), (46, 70, 48))
    picture.paste(bank, (0, 0))
    return picture


def _lake(dice: Dice, picture: Image.Image, shore: int) -> None:
    """Still water from ``shore`` down: what stands above it, upside down, darker and rippled."""
    width, height = picture.size
    depth = height - shore
    above = picture.crop((0, max(0, shore - 2 * depth), width, shore))
    mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize((width, depth), Image.Resampling.BILINEAR)
    mirror = mirror.filter(ImageFilter.BoxBlur((1, max(1, height // 160))))
    ripples = noise(dice, (width, depth), (6, max(2, depth // 6)), 4)
    water = tinted(ripples, (16, 34, 52), (120, 152, 176))
    picture.paste(Image.blend(mirror, water, 0.30), (0, shore))


def _sea(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    mood = dice.pick(("sunset", "golden", "violet", "morning", "noon"))
    picture = _sky(dice, size, mood, dice.between(50, 110))
    horizon = height * dice.between(44, 60) // 100
    sun = _sun(dice, picture, horizon, mood)
    depth = height - horizon
    # Waves shorten towards the horizon: three bands of noise, finer the further away.
    far, near = noise(dice, (width, depth), (10, 60), 4), noise(dice, (width, depth), (5, 18), 5)
    waves = Image.composite(near, far, Image.linear_gradient("L").resize((width, depth)))
    stops = SKIES[mood]
    water = tinted(
        waves, mix((4, 26, 44), stops[0], 25), mix(stops[-1], (150, 190, 200), 45), mix((18, 62, 84), stops[1], 40)
    )
    column = Image.new("L", (width, depth), 0)
    spread = width // 16
    ImageDraw.Draw(column).polygon(
        [
            (sun[0] - spread // 2, 0),
            (sun[0] + spread // 2, 0),
            (sun[0] + 3 * spread, depth),
            (sun[0] - 3 * spread, depth),
        ],
        fill=255,
    )
    column = column.filter(ImageFilter.BoxBlur(width // 28))
    glitter = ImageChops.multiply(contrast(waves, 120, 190), column)
    water.paste(mix(stops[-1], (255, 255, 240), 60), (0, 0), glitter)
    picture.paste(water, (0, horizon))
    if dice.between(0, 1):
        line = ridge(dice, width, height * 104 // 100, height // 9, 56)
        _ground(dice, picture, line, (16, 14, 14), (92, 80, 66))
    return picture


def _dunes(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    mood = dice.pick(("noon", "golden", "sunset", "morning"))
    picture = _sky(dice, size, mood, dice.between(0, 40))
    horizon = height * dice.between(34, 48) // 100
    _sun(dice, picture, horizon, mood)
    sand = dice.pick(
        (((120, 66, 28), (246, 190, 116)), ((136, 84, 52), (250, 214, 160)), ((112, 46, 22), (236, 140, 76)))
    )
    layers = dice.between(4, 6)
    for layer in range(layers):
        veil = 45 - 45 * layer // layers
        dark, light = (mix(colour, SKIES[mood][-1], veil) for colour in sand)
        base = horizon + (height - horizon) * layer // layers
        line = ridge(dice, width, base, height * 7 // 100, 34)
        top = max(0, min(y for _, y in line) - 2)
        area = (width, height - top)
        mask = below(area, [(x, y - top) for x, y in line])
        # Light falls off from the crest down: shade by the distance to the skyline, then ripple it.
        crest = mask.resize((width // 8, area[1] // 8)).filter(ImageFilter.GaussianBlur(height // 80))
        slope = contrast(ImageChops.invert(crest.resize(area, Image.Resampling.BICUBIC)), 0, 128)
        ripple = noise(dice, area, (7, max(2, area[1] // 12)), 4)
        picture.paste(tinted(Image.blend(slope, ripple, 0.35), dark, light), (0, top), mask)
    return picture


def _night(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    picture = _sky(dice, size, "night", 0)
    draw = ImageDraw.Draw(picture)
    for _ in range(420):
        x, y, light = dice.between(0, width), dice.between(0, height * 3 // 4), dice.between(90, 255)
        radius = width * dice.pick((1, 1, 1, 2, 2, 3)) // 1800
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(light, light, min(255, light + 20)))
    if dice.between(0, 2):
        _aurora(dice, picture, height * 58 // 100)
    else:
        at = (dice.between(width // 5, width * 4 // 5), height * dice.between(16, 34) // 100)
        glow(picture, at, width * 30 // 100, (120, 140, 190), 60)
        disc(picture, at, width // 26, (244, 240, 226), max(1, width // 640))
    horizon = height * dice.between(60, 70) // 100
    _ranges(dice, picture, horizon, ((6, 12, 22), (70, 96, 122)), 54)
    if dice.between(0, 1):
        _lake(dice, picture, height * dice.between(80, 86) // 100)
    return picture


def _aurora(dice: Dice, picture: Image.Image, tall: int) -> None:
    """Curtains of light: columns of noise that fade upwards and end in a waving hem."""
    width, _ = picture.size
    shine = dice.pick(((70, 255, 150), (100, 240, 210), (200, 110, 250), (240, 90, 150)))
    for _ in range(2):
        rays = contrast(noise(dice, (width, 1), (dice.between(4, 7), 1), 1).resize((width, tall)), 60, 230)
        fine = noise(dice, (width, 8), (dice.between(40, 70), 1), 2).resize((width, tall))
        fade = Image.linear_gradient("L").resize((width, tall))
        hem = below((width, tall), ridge(dice, width, tall * 70 // 100, tall // 5, 42))
        hem = ImageChops.invert(hem).filter(ImageFilter.BoxBlur((1, tall // 26)))
        light = ImageChops.multiply(ImageChops.multiply(Image.blend(rays, fine, 0.3), fade), hem)
        picture.paste(shine, (0, 0), contrast(light, 10, 150))
        shine = mix(shine, (150, 120, 255), 60)


def _city(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    mood = dice.pick(("dusk", "violet", "sunset", "storm", "golden"))
    picture = _sky(dice, size, mood, dice.between(50, 110))
    draw = ImageDraw.Draw(picture)
    shore = height * dice.between(74, 82) // 100
    for layer in range(3):
        wall = mix((20, 22, 34), SKIES[mood][-1], 50 - 22 * layer)
        x = -dice.between(0, width // 20)
        while x < width:
            wide = width * dice.between(4, 9) // 100
            top = shore - height * dice.between(10 + 4 * (2 - layer), 48 - 8 * layer) // 100
            tone = mix(wall, (0, 0, 0), dice.between(0, 35))
            draw.rectangle((x, top, x + wide, shore), fill=tone)
            if dice.between(0, 4) == 0:
                draw.rectangle((x + wide // 2, top - height // 14, x + wide // 2 + width // 500, top), fill=tone)
            if layer:
                _windows(dice, draw, (x, top, x + wide, shore), max(2, width // 110))
            x += wide + dice.between(0, width // 60)
    _lake(dice, picture, shore)
    return picture


def _windows(dice: Dice, draw: ImageDraw.ImageDraw, wall: tuple[int, int, int, int], pitch: int) -> None:
    left, top, right, bottom = wall
    lit = dice.bytes(4096)
    at = 0
    for y in range(top + pitch, bottom - pitch, pitch * 5 // 4):
        for x in range(left + pitch // 2, right - pitch // 2, pitch):
            level = lit[at % 4096]
            at += 1
            if level > 150:
                draw.rectangle(
                    (x, y, x + pitch // 2, y + pitch * 5 // 8), fill=(level, level * 4 // 5, level // 2)
                )


def _flowers(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    leaf = dice.pick(((20, 54, 22), (16, 48, 40), (46, 58, 18), (40, 34, 58)))
    light = mix(leaf, (200, 226, 140), 60)
    picture = tinted(noise(dice, (width // 4, height // 4), (4, 3), 3), leaf, light).resize(
        size, Image.Resampling.BICUBIC
    )
    petal = dice.pick(
        ((236, 74, 92), (250, 196, 60), (246, 240, 250), (178, 104, 222), (250, 132, 54), (110, 140, 240))
    )
    for _ in range(dice.between(24, 40)):
        at = (dice.between(0, width), dice.between(0, height))
        tone = mix(dice.pick((petal, light, (250, 244, 210))), leaf, dice.between(25, 75))
        disc(picture, at, width * dice.between(1, 5) // 100, tone, max(1, width // 160))
    for _ in range(dice.between(3, 6)):
        at = (dice.between(width // 8, width * 7 // 8), dice.between(height // 6, height * 5 // 6))
        _flower(dice, picture, at, width * dice.between(7, 15) // 100, petal)
    return picture


def _flower(dice: Dice, picture: Image.Image, at: tuple[int, int], radius: int, petal: Colour) -> None:
    width, height = picture.size
    stem = [at, (at[0] + dice.between(-width // 20, width // 20), height)]
    ImageDraw.Draw(picture).line(stem, fill=(44, 84, 36), width=max(2, radius // 12))
    box = 2 * radius
    texture = noise(dice, (box, box), (3, 9), 4)
    petals = dice.between(6, 13)
    for index in range(petals):
        mask = Image.new("L", (box, box), 0)
        half = max(2, radius * 5 // (petals + 6))
        ImageDraw.Draw(mask).ellipse((radius - half, radius // 24, radius + half, radius), fill=255)
        mask = soft_edge(mask.rotate(360 * index / petals + radius % 30, Image.Resampling.BILINEAR))
        tone = tinted(texture, mix(petal, (40, 10, 40), 50), mix(petal, (255, 255, 255), 35 - 30 * (index % 2)))
        picture.paste(tone, (at[0] - radius, at[1] - radius), mask)
    disc(picture, at, radius // 5, (112, 72, 22), 1)
    for _ in range(60):
        spot = (at[0] + dice.between(-radius, radius) // 7, at[1] + dice.between(-radius, radius) // 7)
        disc(picture, spot, max(1, radius // 40), dice.pick(((250, 206, 84), (190, 130, 40))), 0)


def _forest(dice: Dice, size: Size) -> Image.Image:
    width, height = size
    mood = dice.pick(("morning", "overcast", "golden", "violet", "storm"))
    picture = _sky(dice, size, mood, dice.between(20, 90))
    fog = mix(SKIES[mood][-1], (236, 238, 236), 35)
    tree = dice.pick(((16, 40, 30), (22, 34, 42), (40, 42, 18), (52, 34, 22)))
    if mood in {"morning", "golden"}:
        _sun(dice, picture, height * 55 // 100, mood)
    for layer in range(4):
        mask = Image.new("L", size, 0)
        draw = ImageDraw.Draw(mask)
        base = height * (48 + 14 * layer) // 100
        tall = height * (16 + 9 * layer) // 100
        for left, ground in ridge(dice, width, base, height // 12, 50)[:: 9 + 5 * layer]:
            _conifer(dice, draw, (left, ground + tall // 3), tall * dice.between(65, 120) // 100)
        line = ridge(dice, width, base + tall // 3, height // 40, 50)
        draw.polygon([(0, height), *line, (width, height)], fill=255)
        veil = 70 - 22 * layer
        top = max(0, base - height // 6 - tall)
        area = (width, height - top)
        wood = _land(dice, area, mix(tree, fog, veil), mix(mix(tree, (120, 140, 90), 45), fog, veil))
        picture.paste(wood, (0, top), soft_edge(mask.crop((0, top, width, height))))
        mist = ImageChops.multiply(Image.linear_gradient("L").resize(area), noise(dice, area, (3, 6), 3))
        picture.paste(fog, (0, top, width, height), scaled(contrast(mist, 20, 420), 60 - 18 * layer))
    return picture


def _conifer(dice: Dice, draw: ImageDraw.ImageDraw, foot: tuple[int, int], tall: int) -> None:
    x, y = foot
    draw.rectangle((x - tall // 90, y - tall // 2, x + tall // 90, y + tall), fill=255)
    tiers = 9
    for tier in range(tiers):
        top = y - tall + tall * tier // tiers
        half = tall * (tier + 1) // (tiers * 4)
        lean = dice.between(-half // 4 - 1, half // 4 + 1)
        draw.polygon(
            [(x, top), (x - half + lean, top + tall * 2 // 9), (x + half + lean, top + tall * 2 // 9)], fill=255
        )


KINDS: tuple[Callable[[Dice, Size], Image.Image], ...] = (
    _hills,
    _sea,
    _flowers,
    _peaks,
    _city,
    _dunes,
    _forest,
    _night,
)
"""The kinds of scene, in the order that numbers go through them."""
