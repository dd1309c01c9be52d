"""Floor 1, the words: money, clock, errors, events, facts, call, reply, pipeline.

Law: no aiohttp, no YAML, no database, no import from a floor above; only `clock`, `reply` and `pipeline`
know that an event loop exists.
"""
