"""Readers and writers, one small module a format; none of them knows where files are kept."""
