"""What the user said. Dataclasses whose fields and docstrings become CLI help, TOML keys and docs/options.md.

In: strings and values from a command line, ``--set``, a TOML file or a Python call. Out: a RunConfig, checked.
Must never: reach an engine; those see ``scraper.config`` only.

``schema`` turns a dataclass into options, ``units`` reads sizes and times, ``shared`` holds the options every
pipeline has, with those of ``politeness`` and ``requests``, ``again`` checks those for asking again, ``layers``
puts command line over ``--set`` over file over default, ``page`` writes the docs page.
"""

from __future__ import annotations

from scraper.options.again import check_again
from scraper.options.schema import option
from scraper.options.shared import InputOptions, PlaceOptions, RunOptions, from_settings, resolve

__all__ = ["InputOptions", "PlaceOptions", "RunOptions", "check_again", "from_settings", "option", "resolve"]
