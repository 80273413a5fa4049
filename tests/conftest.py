"""A shared machine can be slow: an example that hypothesis draws has no deadline."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
