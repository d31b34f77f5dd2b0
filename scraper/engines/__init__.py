"""How the work is scheduled: one table, name → engine. Each module has one ``run(job)``; see ``job.py``."""

from __future__ import annotations

import importlib

from scraper.engines.job import Engine, Job
from scraper.errors import UsageError

ENGINES = {
    "pipeline": "scraper.engines.pipeline",
}

__all__ = ["ENGINES", "Engine", "Job", "engine_named"]


def engine_named(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ENGINES:
        raise UsageError(f"There is no engine {name!r}; there is: {', '.join(ENGINES)}.")
    engine: Engine = importlib.import_module(ENGINES[name]).run
    return engine
