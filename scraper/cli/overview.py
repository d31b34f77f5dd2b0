"""What `scraper` and `scraper --help` print: the commands and the lines people type most."""

from __future__ import annotations

from scraper.cli.table import BUILT_IN
from scraper.options.found import installed, load

_HEAD = "Usage: scraper COMMAND …\n\nTurn lists of URLs into data. Never loses a row, resumes after anything."

_TAIL = """\
Examples:
  scraper images urls.txt -o photos                              pictures, re-encoded, one file each
  scraper images list.parquet -o data --output-format webdataset --image-size 256
  scraper files urls.csv -o raw --url-col link                   the bytes as they came
  scraper images urls.txt -o photos                              again: goes on where it stopped
  scraper results photos --state failed --format csv             what failed, and why

'scraper COMMAND --help' shows a command's options. Exit status: 0 done, 1 rows failed, 2 usage,
3 stopped, 4 output in use, 130/143 interrupted."""


def overview() -> str:
    """The whole text. Pipelines that cannot be loaded are listed with the reason, not hidden."""
    pipelines = [(name, _summary(name)) for name in installed()]
    commands = [(name, command.summary) for name, command in BUILT_IN.items()]
    return "\n\n".join((_HEAD, _block("Pipelines:", pipelines), _block("Commands:", commands), _TAIL))


def _summary(name: str) -> str:
    try:
        return load(name).summary
    except Exception as error:
        return str(error)


def _block(title: str, entries: list[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"  {name:<10} {summary}" for name, summary in entries)])
