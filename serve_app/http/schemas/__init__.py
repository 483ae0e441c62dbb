"""JSON in and out: request bodies that forbid unknown fields, answers with the documented names.

It knows the contract's words; not how an answer comes about.
"""
