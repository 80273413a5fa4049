"""A shared machine can be slow: an example that hypothesis draws has no deadline. No package reports on our tests."""

import os

from hypothesis import settings

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DEEPEVAL_TELEMETRY_OPT_OUT": "1", "DEEPEVAL_DISABLE_DOTENV": "1"}

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
