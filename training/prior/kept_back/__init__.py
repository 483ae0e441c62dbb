"""Sixty objects that are never trained on, their photos, and what they look like from elsewhere.

Their recipes, paints, light and renderer are their own: nothing here is used to make what the
network learns from, and changing that changes nothing here.
"""
