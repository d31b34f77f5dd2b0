"""Which guards a run goes without, said for the report. In: its settings. Out: sentences.

Must never: leave out one; show a secret.
"""

from __future__ import annotations

from scraper.config import OPT_OUTS, RunConfig
from scraper.policies.secrets import mask_secrets


def lowered(config: RunConfig) -> list[str]:
    """What the run may do beyond the defaults, a sentence each."""
    fetch, polite = config.fetch, config.politeness
    said = []
    if polite.robots == "ignore":
        said.append("robots.txt was not asked for (--robots ignore).")
    if missing := [each for each in OPT_OUTS if each not in polite.opt_outs]:
        said.append(f"X-Robots-Tag was not heeded where it said {', '.join(missing)} (--opt-outs).")
    if fetch.tls.insecure:
        said.append(f"Certificates of {', '.join(sorted(fetch.tls.insecure))} were not verified (--insecure).")
    if fetch.allow_net:
        said.append(f"Addresses in {', '.join(fetch.allow_net)} could be asked (--allow-net).")
    if fetch.proxy:
        said.append(f"Requests went through a proxy, {mask_secrets(fetch.proxy)} (--proxy).")
    if not polite.adaptive:
        said.append("Hosts were asked at full speed from the beginning (--pace fixed).")
    return said
