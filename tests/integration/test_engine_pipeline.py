"""The product's engine keeps what every engine must."""

from __future__ import annotations

from scraper.engines import pipeline
from scraper.testing.engine import EngineContract


class TestPipeline(EngineContract):
    engine = staticmethod(pipeline.run)
