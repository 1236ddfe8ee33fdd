"""Settings shared by all tests: no deadline per example, as the first call compiles kernels."""

from hypothesis import settings

import tetrasim  # noqa: F401  first: it keeps onnxruntime, which some tests import themselves, from reporting

settings.register_profile("tetrasim", deadline=None)
settings.load_profile("tetrasim")
