"""Floor 2, bytes and JSON to words and back: SSE, requests, responses, and the one classifier of failures.

Law: pure. No socket, no clock, no random: bytes or values in, values out.
"""
