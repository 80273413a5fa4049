from dspy import Signature

class DSPyError(Exception):
    message: str

class LMError(DSPyError): ...

class AdapterParseError(DSPyError):
    adapter_name: str
    signature: Signature
    lm_response: str
