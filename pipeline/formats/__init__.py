"""Readers and writers, one small module a format; none of them knows where files are kept.

A new format is one entry of `FORMATS` in `pipeline/file_types.py`, a module here with a function
`write_...(model or mesh, *, compact: bool = False) -> bytes`, and its line in `WRITERS` of
`pipeline/engines/exporter.py`. A media type of its own stands in `file_types`, too.
"""
