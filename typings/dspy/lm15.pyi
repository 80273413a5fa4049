from typing import Any

class Config:
    top_k: int | None

class Request:
    model: str
    config: Config

class Response: ...
class ContextLengthError(Exception): ...

def response_from_openai_chat(body: Any, *, model: str) -> Response: ...
def __getattr__(name: str) -> Any: ...
