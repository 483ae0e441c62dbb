"""A splat model of one photo in one pass: the DeG networks of TripoSplat, Idol and Idol Turbo.

It does not know views, refinement, or where weights lie. Importing this package imports no model
code. Architecture after TripoSplat, MIT, (c) 2026 VAST; arXiv 2605.16355.
"""
