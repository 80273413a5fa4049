from typing import Any

from dspy.lm15 import Request

def request_kwargs(request: Request, model_type: str) -> dict[str, Any]: ...
