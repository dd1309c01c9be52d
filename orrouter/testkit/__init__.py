"""Floor 4, shipped to users: a scripted far end, virtual time, and a fake OpenRouter to test a service against.

Law: the library never imports it.
"""
