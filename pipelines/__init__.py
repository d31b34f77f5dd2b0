"""Ready-made pipelines, each an ``Options`` dataclass and a ``build()``. They import only ``scraper``.

A package of your own becomes a sub-command the same way: name its module under the entry-point group
``scraper.pipelines``.
"""
