"""Async-first pipelines that turn lists of URLs into data. This is the whole public surface.

    from pipelines import images
    from scraper import run

    report = run(images.build(image_size=256), urls=[...], out="out")

Names are looked up when they are first used (PEP 562), so that importing this costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from scraper._version import __version__ as __version__

if TYPE_CHECKING:
    from scraper.api import Watch as Watch
    from scraper.api import arun as arun
    from scraper.api import run as run
    from scraper.config import Again as Again
    from scraper.config import CommitConfig as CommitConfig
    from scraper.config import FetchConfig as FetchConfig
    from scraper.config import HealthConfig as HealthConfig
    from scraper.config import PermitConfig as PermitConfig
    from scraper.config import Pipeline as Pipeline
    from scraper.config import PoolConfig as PoolConfig
    from scraper.config import RetryConfig as RetryConfig
    from scraper.config import RunConfig as RunConfig
    from scraper.config import SourceConfig as SourceConfig
    from scraper.config import SpaceConfig as SpaceConfig
    from scraper.engines.job import Engine as Engine
    from scraper.engines.job import Job as Job
    from scraper.errors import OUTCOME_CLASSES as OUTCOME_CLASSES
    from scraper.errors import Fault as Fault
    from scraper.errors import FetchFailed as FetchFailed
    from scraper.errors import InputInvalid as InputInvalid
    from scraper.errors import InternalFault as InternalFault
    from scraper.errors import MissingExtra as MissingExtra
    from scraper.errors import OutcomeClass as OutcomeClass
    from scraper.errors import OutputLocked as OutputLocked
    from scraper.errors import RowFailed as RowFailed
    from scraper.errors import RunStopped as RunStopped
    from scraper.errors import ScraperError as ScraperError
    from scraper.errors import SinkFailed as SinkFailed
    from scraper.errors import SinkRejected as SinkRejected
    from scraper.errors import State as State
    from scraper.errors import TransformFailed as TransformFailed
    from scraper.errors import UsageError as UsageError
    from scraper.errors import outcome_class as outcome_class
    from scraper.ledger_reader import LedgerReader as LedgerReader
    from scraper.options.schema import filled as filled
    from scraper.options.schema import option as option
    from scraper.protocols import Sink as Sink
    from scraper.protocols import SinkState as SinkState
    from scraper.protocols import Source as Source
    from scraper.protocols import Transform as Transform
    from scraper.records import Item as Item
    from scraper.records import Outcome as Outcome
    from scraper.records import Request as Request
    from scraper.records import Response as Response
    from scraper.records import Result as Result
    from scraper.records import Timings as Timings
    from scraper.report import Report as Report
    from scraper.sinks import OutputFormat as OutputFormat
    from scraper.sinks import output_of as output_of
    from scraper.sinks.files import FilesOutput as FilesOutput
    from scraper.sinks.jsonl import JsonlOutput as JsonlOutput
    from scraper.sinks.webdataset import WebdatasetOutput as WebdatasetOutput
    from scraper.transforms.image import ImageTransform as ImageTransform
    from scraper.transforms.raw import RawTransform as RawTransform
    from scraper.transforms.user import Sample as Sample

__all__ = [
    "OUTCOME_CLASSES",
    "Again",
    "CommitConfig",
    "Engine",
    "Fault",
    "FetchConfig",
    "FetchFailed",
    "FilesOutput",
    "HealthConfig",
    "ImageTransform",
    "InputInvalid",
    "InternalFault",
    "Item",
    "Job",
    "JsonlOutput",
    "LedgerReader",
    "MissingExtra",
    "Outcome",
    "OutcomeClass",
    "OutputFormat",
    "OutputLocked",
    "PermitConfig",
    "Pipeline",
    "PoolConfig",
    "RawTransform",
    "Report",
    "Request",
    "Response",
    "Result",
    "RetryConfig",
    "RowFailed",
    "RunConfig",
    "RunStopped",
    "Sample",
    "ScraperError",
    "Sink",
    "SinkFailed",
    "SinkRejected",
    "SinkState",
    "Source",
    "SourceConfig",
    "SpaceConfig",
    "State",
    "Timings",
    "Transform",
    "TransformFailed",
    "UsageError",
    "Watch",
    "WebdatasetOutput",
    "__version__",
    "arun",
    "filled",
    "option",
    "outcome_class",
    "output_of",
    "run",
]

_HOMES = {
    "scraper.api": ("Watch", "arun", "run"),
    "scraper.config": (
        "Again",
        "CommitConfig",
        "FetchConfig",
        "HealthConfig",
        "PermitConfig",
        "Pipeline",
        "PoolConfig",
        "RetryConfig",
        "RunConfig",
        "SourceConfig",
        "SpaceConfig",
    ),
    "scraper.engines.job": ("Engine", "Job"),
    "scraper.errors": (
        "Fault",
        "FetchFailed",
        "InputInvalid",
        "InternalFault",
        "MissingExtra",
        "OUTCOME_CLASSES",
        "OutcomeClass",
        "OutputLocked",
        "RowFailed",
        "RunStopped",
        "ScraperError",
        "SinkFailed",
        "SinkRejected",
        "State",
        "TransformFailed",
        "UsageError",
        "outcome_class",
    ),
    "scraper.ledger_reader": ("LedgerReader",),
    "scraper.options.schema": ("filled", "option"),
    "scraper.protocols": ("Sink", "SinkState", "Source", "Transform"),
    "scraper.records": ("Item", "Outcome", "Request", "Response", "Result", "Timings"),
    "scraper.report": ("Report",),
    "scraper.sinks": ("OutputFormat", "output_of"),
    "scraper.sinks.files": ("FilesOutput",),
    "scraper.sinks.jsonl": ("JsonlOutput",),
    "scraper.sinks.webdataset": ("WebdatasetOutput",),
    "scraper.transforms.image": ("ImageTransform",),
    "scraper.transforms.raw": ("RawTransform",),
    "scraper.transforms.user": ("Sample",),
}
"""Where each name lives. The imports above say the same to type checkers; a test holds the two together."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
