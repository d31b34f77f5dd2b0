"""Public fakes, and one contract suite for each protocol: what our tests use is there for yours.

    source.SourceContract          a list that rows come from
    transform.TransformContract    what is made of a response
    sink.SinkContract              a place that results go to
    disk.DiskSinkContract          the same on disks that fail, in processes that die
    engine.EngineContract          a way of scheduling the work
    clock.run_virtual              an event loop whose time is virtual
    server.ScriptedServer          a server that does exactly what its script says, however wrong

Importing this package loads nothing; take what you need from its modules.
"""
