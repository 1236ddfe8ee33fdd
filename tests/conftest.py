"""Settings shared by all tests: no deadline per example, as the first call compiles kernels."""

from hypothesis import settings

settings.register_profile("tetrasim", deadline=None)
settings.load_profile("tetrasim")
