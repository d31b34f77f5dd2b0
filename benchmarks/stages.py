"""Our own stages: the whole pipeline beside its workers alone, and where the loop's CPU time goes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import peers, stage_programs
from benchmarks.figures import Bars, Finding, judged, ratios, spread, verdict
from benchmarks.images import pictures_in, shard_of, steady_rate
from benchmarks.measuring import Run, run
from benchmarks.serving import Server, developed
from benchmarks.setting import LIMIT_S, Done, Setting, Side, empty, growth, in_turn, is_whole, rate, write_list
from scraper.origin import pictures

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.85
PIPELINE, MEMORY = "pipeline", "workers from memory"
ROWS = {"thumb": (4_000, 400), "photo": (2_000, 200), "large": (300, 32)}
NAMES = {"thumb": "400x300", "photo": "1280x960", "large": "4000x3000"}

PARTS = {"fetch": 0.12, "hand-off": 0.10, "sink": 0.10}
"""Part → CPU milliseconds of a row that it may take in the loop process (DESIGN.md 6)."""

BARE = "bare"
"""A run with fetch, queues and ledger, and nothing else: what the others are told apart from."""

PART_ROWS = (10_000, 1_000)


@dataclass(frozen=True, slots=True)
class Found:
    """Pictures of one size.

    Attributes:
        size: the origin's name.
        rows: of each run.
        pipeline: the runs of the whole pipeline.
        memory: those of its workers alone.
        server_ms: CPU time of the server for a picture, in each run of the pipeline; empty if not known.
    """

    size: str
    rows: int
    pipeline: Sequence[Done]
    memory: Sequence[Done]
    server_ms: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The pipeline's rate over that of its workers, pair by pair."""
        pairs = [
            (steady_rate(one), rate(other))
            for one, other in zip(self.pipeline, self.memory, strict=True)
            if one.ok
        ]
        known = [(one, other) for one, other in pairs if one is not None and other]
        return ratios([one for one, _ in known], [other for _, other in known])


def measure(setting: Setting) -> Finding:
    """Three sizes of pictures, and then bodies of 36 KB without a transform."""
    found = [_sized(setting.below(size), size) for size in ROWS]
    rows = PART_ROWS[setting.quick]
    return _finding(setting, found, _parts(setting.below("parts"), rows), rows)


def _sized(setting: Setting, size: str) -> Found:
    rows = ROWS[size][setting.quick]
    setting.server.offer(size, rows)
    urls = write_list(setting.folder / f"{size}.txt", (setting.server.picture(size, n) for n in range(rows)))
    server_ms: list[float] = []
    go = partial(_through_the_pipeline, setting.folder, setting.server, urls, rows, server_ms)
    told = ["memory", str(rows), *map(str, _bodies(setting.folder, size))]
    sides = [
        Side(PIPELINE, rows, go, pictures_in),
        Side(MEMORY, rows, partial(_program, setting.folder, told), partial(_count, setting.folder)),
    ]
    done = in_turn(setting, sides)
    return Found(size, rows, done[sides[0]], done[sides[1]], server_ms)


def _bodies(folder: Path, size: str) -> list[Path]:
    """Files with the pictures, for workers to read."""
    there = folder / f"bodies-{size}"
    there.mkdir(exist_ok=True)
    paths = [there / f"{number}.jpg" for number in range(pictures.SIZES[size].scenes)]
    for number, path in enumerate(paths):
        path.write_bytes(developed(size, number))
    return paths


def _through_the_pipeline(
    folder: Path, server: Server, urls: Path, rows: int, server_ms: list[float], out: Path
) -> Run:
    before = server.cpu_s()
    command = peers.images_command(urls, out, shard_of(rows))
    done = run(command, folder=folder, stop_after_s=LIMIT_S, watch=growth(out, "*.tar*"))
    after = server.cpu_s()
    if before is not None and after is not None:
        server_ms.append(1e3 * (after - before) / rows)
    return done


def _program(folder: Path, told: Sequence[str], _out: Path) -> Run:
    """One of ``stage_programs``; its seconds are those it measured."""
    (folder / stage_programs.SAID).unlink(missing_ok=True)
    environment = {"PYTHONPATH": str(ROOT)}
    done = run(stage_programs.command(*told), folder=folder, environment=environment, stop_after_s=LIMIT_S)
    return replace(done, seconds=_said(folder).get("seconds", done.seconds))


def _said(folder: Path) -> dict[str, float]:
    path = folder / stage_programs.SAID
    said: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    return said


def _count(folder: Path, _out: Path) -> int:
    return int(_said(folder).get("ok", 0))


def _parts(setting: Setting, rows: int) -> Mapping[str, list[float]]:
    """CPU milliseconds of a row in the loop process, by part; nothing of a turn in which rows went missing."""
    folder, server = setting.folder, setting.server
    server.offer("thumb", rows)
    listed = write_list(folder / "rows.txt", (server.picture("thumb", n) for n in range(rows)))
    tiny = write_list(folder / "tiny.txt", (server.tiny(n) for n in range(rows)))
    bodies = [str(path) for path in _bodies(folder, "thumb")]
    found: dict[str, list[float]] = {name: [] for name in (BARE, *PARTS)}
    for number in range(setting.repeat):
        said = {}
        for kind in found:
            out = folder / f"part-{kind}-{number}"
            told = [kind, str(tiny)] if kind == "fetch" else [kind, str(listed), str(out), *bodies]
            _program(folder, told, out)
            said[kind] = _said(folder)
            empty(out)
        if any(each.get("ok") != rows for each in said.values()):
            print(f"  not all rows are right: {said}", flush=True)
            continue
        loop_ms = {kind: 1e3 * each["loop_s"] / rows for kind, each in said.items()}
        print("  " + ", ".join(f"{kind} {each:.3f} ms" for kind, each in loop_ms.items()), flush=True)
        # What is handed to workers is hashed there, and on the loop otherwise.
        unhashed = loop_ms[BARE] - 1e3 * said[BARE]["digest_s"]
        found[BARE].append(unhashed)
        found["fetch"].append(loop_ms["fetch"])
        found["hand-off"].append(loop_ms["hand-off"] - unhashed)
        found["sink"].append(loop_ms["sink"] - loop_ms[BARE])
    return found


def _finding(setting: Setting, found: Sequence[Found], parts: Mapping[str, Sequence[float]], rows: int) -> Finding:
    is_valid = all(is_whole([each.pipeline, each.memory], each.rows) for each in found) and all(parts.values())
    lines = [
        [
            f"{NAMES[each.size]}, {each.rows:,} pictures",
            spread([value for value in map(steady_rate, each.pipeline) if value is not None]),
            spread([rate(done) for done in each.memory]),
            spread(each.ratios, 2),
            spread(each.server_ms, 2),
        ]
        for each in found
    ]
    what = {
        "fetch": "fetch of 1 KB, alone: ms",
        "hand-off": "hand-off of 36 KB to a worker and 20 KB back: ms",
        "sink": "tar sink, 20 KB: ms",
        BARE: "all else: start-up, list, frontier, fetch of 36 KB, queues, ledger: ms",
    }
    lines += [[f"loop process, {words}", spread(parts[name], 3), "", "", ""] for name, words in what.items()]
    goals: list[tuple[str, float, Sequence[float], bool]] = [
        (f"{NAMES[each.size]}: {spread(each.ratios, 2)} of the rate from memory", GOAL, each.ratios, True)
        for each in found
    ]
    goals += [
        (f"{name}: {spread(parts[name], 3)} ms on the loop", goal, parts[name], False)
        for name, goal in PARTS.items()
    ]
    return Finding(
        "stages: the pipeline beside its workers alone, and the loop's share",
        ["", "pipeline, images/s or ms", "workers from memory, images/s", "ratio", "server, CPU ms per image"],
        lines,
        [
            "pipeline: `scraper images` from the server to a 256 px WebDataset, steady as in `images`; workers "
            f"from memory: the same {peers.WORKERS} workers with the bodies in their memory, answers sent back",
            f"the server runs on the same {peers.cores()} cores: what it takes, the pipeline lacks; "
            f"server: {setting.server.name}",
            f"loop process: CPU of all its threads over {rows:,} rows; hand-off and sink are what a run takes "
            "more with them than without",
        ],
        "\n".join(_verdict(*goal, is_valid=is_valid) for goal in goals),
        is_valid,
        plots=[
            Bars(
                "stages",
                "pipeline beside its workers alone",
                "share of the rate from memory",
                [NAMES[each.size] for each in found],
                {"": [each.ratios for each in found]},
            )
        ],
    )


def _verdict(words: str, goal: float, values: Sequence[float], more: bool, *, is_valid: bool) -> str:
    met = judged(values, lambda it: it >= goal if more else it <= goal)
    return verdict("stages", words, f"at {'least' if more else 'most'} {goal}", met, is_valid=is_valid)
