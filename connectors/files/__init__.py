"""Files: ``hengliu load FILE --as MAPPING``.

``mapping`` says what a declaration holds, ``readers`` make rows of a file, ``times`` and ``numbers`` read its cells,
``convert`` makes events of rows, ``client`` sends them, ``command`` is the command line. ``mappings/*.toml`` are bundled.
"""
