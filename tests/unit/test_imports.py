"""Which way imports point. The graph is drawn from the source: TYPE_CHECKING and lazy imports count."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LAYERS: list[set[str]] = [
    {"scraper._version", "scraper.errors", "scraper.units", "scraper.whatwg"},
    {"scraper.records", "scraper.config_results"},
    {"scraper.protocols"},
    {"scraper.config"},
    {"scraper.policies"},
    {"scraper.database", "scraper.origin.settings"},
    # The stages: each by itself.
    {
        "scraper.allocator",
        "scraper.answers",
        "scraper.descriptors",
        "scraper.arena",
        "scraper.asking",
        "scraper.backlog",
        "scraper.bodies",
        "scraper.buddies",
        "scraper.channel",
        "scraper.connector",
        "scraper.cookies",
        "scraper.credentials",
        "scraper.deadline",
        "scraper.decoding",
        "scraper.failures",
        "scraper.fetch",
        "scraper.framing",
        "scraper.frontier",
        "scraper.hosts",
        "scraper.lease",
        "scraper.ledger",
        "scraper.ledger_hosts",
        "scraper.ledger_pass",
        "scraper.ledger_prints",
        "scraper.ledger_reader",
        "scraper.ledger_schema",
        "scraper.log",
        "scraper.memory",
        "scraper.meter",
        "scraper.outdir",
        "scraper.pool",
        "scraper.resolver",
        "scraper.snapshot",
        "scraper.seen",
        "scraper.sinks",
        "scraper.sources",
        "scraper.spawning",
        "scraper.tls",
        "scraper.transforms",
        "scraper.windows",
        "scraper.worker",
        "scraper.workers",
    },
    # Asks by way of a stage.
    {"scraper.robots"},
    # Over the stages, below what puts a run together.
    {"scraper.engines", "scraper.origin", "scraper.progress", "scraper.report", "scraper.results"},
    {"scraper.options", "scraper.shaping"},
    {"scraper.api"},
    {"scraper.cli"},
    {"scraper.__main__", "scraper.testing"},
    {"scraper"},
    {"pipelines"},
]
"""Lowest first. A module belongs to the longest name here that it begins with; it may import what lies lower."""

PARTS_OF = {
    "scraper.answers": {"scraper.arena"},  # a body comes in a slot
    "scraper.arena": {"scraper.memory"},
    "scraper.bodies": {"scraper.arena", "scraper.connector", "scraper.decoding"},
    "scraper.fetch": {
        "scraper.answers",
        "scraper.asking",
        "scraper.arena",  # it writes into a slot that the engine hands it
        "scraper.bodies",
        "scraper.connector",
        "scraper.deadline",
        "scraper.decoding",
        "scraper.failures",
        "scraper.resolver",
    },
    "scraper.asking": {"scraper.cookies", "scraper.credentials", "scraper.tls"},
    "scraper.failures": {"scraper.connector", "scraper.framing", "scraper.resolver"},
    "scraper.connector": {"scraper.deadline", "scraper.descriptors", "scraper.framing", "scraper.resolver"},
    "scraper.frontier": {"scraper.backlog", "scraper.hosts", "scraper.lease", "scraper.windows"},
    "scraper.ledger": {
        "scraper.ledger_hosts",
        "scraper.ledger_pass",
        "scraper.ledger_prints",
        "scraper.ledger_reader",
        "scraper.ledger_schema",
    },
    "scraper.ledger_hosts": {"scraper.ledger_schema"},
    "scraper.ledger_pass": {"scraper.ledger_schema"},
    "scraper.ledger_prints": {"scraper.ledger_schema"},
    "scraper.ledger_reader": {"scraper.ledger_hosts", "scraper.ledger_pass", "scraper.ledger_schema"},
    "scraper.memory": {"scraper.buddies"},
    "scraper.meter": {"scraper.channel"},
    "scraper.pool": {"scraper.memory", "scraper.worker", "scraper.workers"},  # which share it with the loop
    "scraper.snapshot": {"scraper.channel", "scraper.meter"},
    "scraper.windows": {"scraper.backlog", "scraper.hosts"},
    "scraper.worker": {"scraper.allocator", "scraper.memory"},
    "scraper.spawning": {"scraper.worker"},
    "scraper.workers": {"scraper.memory", "scraper.spawning", "scraper.worker"},
}
"""Stages know no other stage, but for what is a part of them in a file of its own."""

OWNERS = {
    # Workers decode with it; the report shrinks what they wrote; the origin, a process of its own, paints.
    "PIL": {
        "scraper.origin.brush",
        "scraper.origin.pictures",
        "scraper.origin.scenes",
        "scraper.report.thumbnails",
        "scraper.transforms.blur",
        "scraper.transforms.codecs",
        "scraper.transforms.colour",
        "scraper.transforms.metadata",
        "scraper.transforms.pixels",
        "scraper.transforms.prints",
    },
    # A client and a server are two libraries in one; the connector is the client's part that checks addresses.
    "aiohttp": {
        "scraper.bodies",
        "scraper.connector",
        "scraper.failures",
        "scraper.fetch",
        "scraper.framing",
        "scraper.origin.server",
    },
    "uvloop": {"scraper.api", "scraper.origin.server"},  # each makes the event loop of its own process
    "yarl": {
        "scraper.asking",
        "scraper.cookies",
        "scraper.credentials",
        "scraper.fetch",
        "scraper.policies.headers",
        "scraper.policies.proxies",
        "scraper.policies.urls",
    },  # aiohttp's URL type: parsed by the rule, passed on by fetch
    # Codecs: the client decodes bodies, the origin encodes them, sources read compressed lists.
    "backports": {"scraper.decoding", "scraper.origin.encodings", "scraper.sources.reading"},
    "brotli": {"scraper.decoding", "scraper.origin.encodings"},
    "compression": {"scraper.decoding", "scraper.origin.encodings", "scraper.sources.reading"},
    "isal": {"scraper.decoding", "scraper.sources.reading"},
    "msgspec": {"scraper.backlog", "scraper.sinks.rows", "scraper.sources.jsonl"},  # a codec too: JSON
    "pyarrow": {"scraper.sinks.shard", "scraper.sources.parquet"},  # one writes Parquet, the other reads it
}
"""Foreign libraries that more than one module may import, and why; every other has one importer."""

PURE = {"asyncio", "aiohttp", "random", "time", "socket", "os", "threading", "uuid", "secrets"}
"""What a rule must not import: what it needs to know comes in as an argument."""


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in ("scraper", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Every dotted name that a module imports, wherever in it the import stands."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module is not None
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


@functools.cache
def graph() -> dict[str, set[str]]:
    """Module → modules of ours that it imports."""
    known = modules()
    return {name: {_longest(each, known) for each in imported(path)} - {"", name} for name, path in known.items()}


def _longest(dotted: str, known: dict[str, Path] | set[str]) -> str:
    while dotted and dotted not in known:
        dotted = dotted.rpartition(".")[0]
    return dotted


def _layer(module: str) -> tuple[int, str]:
    """The height of a module, and the entry of the table it belongs to."""
    entries = {entry: height for height, layer in enumerate(LAYERS) for entry in layer}
    entry = _longest(module, set(entries))
    # The bare package is its __init__ only: a new module must be given a place in the table.
    assert entry != "scraper" or module == "scraper", f"{module} has no place in LAYERS"
    return entries[entry], entry


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle; empty if there are none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(edges.get(node, ())):
            if found := visit(other, [*path, node]):
                return found
        done.add(node)
        return []

    for start in sorted(edges):
        if found := visit(start, []):
            return found
    return []


def test_the_search_for_cycles_finds_one() -> None:
    """A circle of three is seen, whatever else there is."""
    assert cycle({"a": {"b"}, "b": {"c", "x"}, "c": {"a"}, "x": set()}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    """The import graph has no knot."""
    assert cycle(graph()) == []


def test_imports_point_down() -> None:
    """Each module imports only what lies in a lower layer, in its own package, or is a part of it."""
    wrong = []
    for module, others in graph().items():
        height, entry = _layer(module)
        for other in others:
            below, other_entry = _layer(other)
            if below < height or entry == other_entry or other_entry in PARTS_OF.get(entry, ()):
                continue
            wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_no_exception_is_granted_in_vain() -> None:
    """Whatever the tables above allow is made use of, so that they say how things are."""
    edges = graph()
    parts = {(whole, part) for whole, found in PARTS_OF.items() for part in found if part not in edges[whole]}
    assert parts == set()
    found = modules()
    owners = {
        (library, owner)
        for library, names in OWNERS.items()
        for owner in names
        if library not in {each.partition(".")[0] for each in imported(found[owner])}
    }
    assert owners == set()


def test_pipelines_use_only_the_public_surface() -> None:
    """A ready-made pipeline is written as a stranger would write one."""
    used = {
        name: {each for each in others if each.startswith("scraper")}
        for name, others in graph().items()
        if name.startswith("pipelines")
    }
    assert all(others <= {"scraper"} for others in used.values()), used


def test_each_foreign_library_has_one_importer() -> None:
    """What a library is like is known in one place, so that it can be replaced there."""
    importers: dict[str, set[str]] = {}
    for name, path in modules().items():
        for each in imported(path):
            top = each.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in ("scraper", "pipelines"):
                importers.setdefault(top, set()).add(name)
    # Fakes and contract suites are there to touch what the product wraps.
    product = {lib: {each for each in names if ".testing" not in each} for lib, names in importers.items()}
    wrong = {
        lib: names for lib, names in product.items() if len(names) > 1 and not names <= OWNERS.get(lib, set())
    }
    assert wrong == {}


def test_rules_are_pure() -> None:
    """No policy reads a clock, rolls dice, or knows what carries it out."""
    wrong = {
        name: bad
        for name, path in modules().items()
        if name.startswith("scraper.policies")
        if (bad := {each.partition(".")[0] for each in imported(path)} & PURE)
    }
    assert wrong == {}


def test_engines_never_see_options() -> None:
    """What runs a job gets resolved settings, never what a user typed."""
    engines = {name: others for name, others in graph().items() if name.startswith("scraper.engines")}
    assert engines
    assert not {each for others in engines.values() for each in others if each.startswith("scraper.options")}
