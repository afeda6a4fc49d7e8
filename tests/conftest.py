"""What all tests share: property tests draw the same examples on every machine, however busy it is."""

from hypothesis import settings

settings.register_profile("tunekit", deadline=None, derandomize=True)
settings.load_profile("tunekit")
