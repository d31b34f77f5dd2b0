"""The built-in origin: a web server on loopback with photographs, pages, latency and every fault.

It exists for the demo, the tests and comparisons, and serves nobody else: it listens on 127.0.0.1 only.

    settings ─ reply ─┬─ brush ─ scenes ─ pictures ─┐
                      ├─ pages ─────────────────────┼─ server ─ process (a child that serves) ─ lists
                      └─ encodings ─ faults ────────┘

Importing this package loads nothing: take ``OriginConfig`` from ``settings``, ``OriginProcess`` from
``process``, ``run`` and ``serve`` from ``server``.
"""
