"""Why a try brought no answer: providers' errors and malformed answers, read into one small set of kinds.

Three questions decide everything that follows: may it be tried again, may it have been billed, and how long does the
server want to be left alone. What a provider says is masked before it goes anywhere, because error bodies quote keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from promptopt.core.rollout import Failure
from promptopt.lm.retries import retry_after

AGAIN = frozenset({"rate_limit", "server", "timeout", "connection", "malformed", "empty"})
"""Failures that another try may mend."""

_STATUS = {401: "auth", 402: "budget", 403: "auth", 404: "not_found", 408: "timeout", 409: "server", 429: "rate_limit"}
_OUT_OF_FUNDS = re.compile(
    r"insufficient[_ ](quota|funds|credits?|balance)|your credit balance is too low|billing_hard_limit"
    r"|budget[ _](has been |limit )?exceeded|exceeded ?budget",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_policy|content_filter|content management policy|ResponsibleAIPolicy", re.IGNORECASE)
_ABOUT_SCHEMA = re.compile(r"response_?format|json_?schema|structured|schema|grammar", re.IGNORECASE)
_ABOUT_LOGPROBS = re.compile("log_?probs", re.IGNORECASE)
_KEY_LIKE = re.compile(
    r"\b(sk|pk|rk|gsk|hf|xai|AIza|ghp)(?=[-_]|[a-z]*\d)[-_]?[A-Za-z0-9*_\-]{8,}|\bkey(?=[a-z*_\-]*\d)[A-Za-z0-9*_\-]{8,}"
    r"|(?<=bearer )\S+|(?<=api[-_]key[=:])\s*\S+"
    r"|\b(?=[A-Za-z_\-]*\d)(?=[\d_\-]*[A-Za-z])[A-Za-z0-9_\-]{32,}",
    re.IGNORECASE,
)
_WRAPPING = re.compile(r"^((litellm\.)?\w*(Error|Exception|Timeout)( - |: | ))+|\s*Handle with `litellm\.\w+`\.?$")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A try that brought no answer."""

    failure: Failure
    billed: bool = True
    """Whether the provider may charge for it; False only where it surely does not."""
    retry_after: float | None = None
    """Seconds that the server asks to be left alone."""
    again: bool = False
    """Whether another try may help."""


def trouble(
    kind: str, message: str, *, billed: bool = True, retry_after: float | None = None, again: bool | None = None
) -> Trouble:
    """Trouble of `kind`, which decides whether to try again where `again` does not."""
    return Trouble(Failure(kind, message), billed, retry_after, kind in AGAIN if again is None else again)


def read_error(error: Exception, secrets: Iterable[str] = ()) -> Trouble:
    """What an exception out of litellm means.

    Its own class and status say little: a refused connection is a 500 to it, and a web page in place of JSON a 200, a
    422 or a 500, depending on the provider. So the errors that it wraps are read: only an HTTP error among them proves
    that the provider refused the request and charges nothing for it.
    """
    causes = list(_causes(error))
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    said = _message(error, secrets)
    if (refused := _http_response(causes)) is not None:
        kind = _kind(refused.status_code, causes)
        return trouble(kind, f"{refused.status_code}: {said}", billed=False, retry_after=retry_after(refused.headers))
    if "UnicodeEncodeError" in names:
        return trouble("bad_request", "the request holds half a surrogate pair, which is no text", billed=False)
    if "UnsupportedParamsError" in names:
        return trouble("bad_request", said, billed=False)
    if names & {"ConnectError", "ClientConnectorError", "ConnectTimeout"}:
        return trouble("connection", f"cannot connect ({_reason(causes) or said})", billed=False)
    if names & {"TimeoutException", "APITimeoutError"}:
        return trouble("timeout", said)
    if names & {"TransportError", "ClientConnectionError"}:
        return trouble("connection", f"the connection was lost ({_reason(causes) or said})")
    status = getattr(error, "status_code", None)
    if status in (400, 401, 403, 404):
        return trouble(_kind(status, causes), said)
    return trouble("malformed", f"the answer could not be read ({said})")


def _http_response(causes: Iterable[Any]) -> Any | None:
    """The HTTP error that the provider answered with, if one is among `causes`; its headers know no case."""
    for cause in causes:
        if any(base.__name__ == "HTTPStatusError" for base in type(cause).__mro__):
            return cause.response
    return None


def _kind(status: int, causes: Iterable[BaseException]) -> str:
    """The kind of failure that an HTTP status means, given everything that was said with it."""
    kind = _STATUS.get(status, "server" if status >= 500 else "bad_request")
    everything = " ".join(f"{cause} {getattr(cause, 'code', '')}" for cause in causes)
    if _OUT_OF_FUNDS.search(everything) or (kind == "rate_limit" and "budget" in everything.lower()):
        return "budget"
    if kind == "auth" and _ABOUT_LOGPROBS.search(everything):  # OpenAI forbids them where a model has none
        return "bad_request"
    return "refusal" if kind == "bad_request" and _FILTERED.search(everything) else kind


def read_message(choice: Any) -> str | Trouble:
    """The text of a completion's choice ("" with tool calls), or what is wrong with it."""
    message, reason, text = choice.message, choice.finish_reason, choice.message.content
    extra: dict[str, Any] = getattr(message, "provider_specific_fields", None) or {}
    if refusal := getattr(message, "refusal", None) or extra.get("refusal"):
        return trouble("refusal", f"the model refused ({mask(str(refusal))[:200]})")
    if reason == "content_filter":
        return trouble("refusal", "a filter held the answer back")
    if (text and text.strip()) or message.tool_calls:
        return text or ""
    if reason == "length":
        return trouble("empty", "max_tokens went by before an answer began; raise max_tokens", again=False)
    return trouble("empty", "the answer is empty")


def refuses_schema(failure: Failure) -> bool:
    """Whether a request was refused because of its JSON schema."""
    return failure.kind == "bad_request" and _ABOUT_SCHEMA.search(failure.message) is not None


def refuses_logprobs(failure: Failure) -> bool:
    """Whether a request was refused because it asks for log-probabilities, also where a program wraps the error."""
    return failure.kind in ("bad_request", "program") and _ABOUT_LOGPROBS.search(failure.message) is not None


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets`, values of the environment's key variables, and whatever looks like a key."""
    stored = (value for name, value in os.environ.items() if re.search("KEY|TOKEN|SECRET|PASSWORD", name))
    for secret in sorted({s for s in (*secrets, *stored) if len(s) >= 6}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _KEY_LIKE.sub("***", text)


def _message(error: Exception, secrets: Iterable[str]) -> str:
    """What the provider said, on one line, masked, without litellm's wrapping and without markup."""
    said = str(getattr(error, "message", "") or error)
    if re.search(r"<!doctype html|<html", said, re.IGNORECASE):
        title = re.search(r"<title>(.*?)</title>", said, re.IGNORECASE | re.DOTALL)
        said = "a web page came instead of JSON" + (f": {title[1]}" if title else "")
    elif "Traceback" in said:
        said = f"not a chat completion: {type(list(_causes(error))[-1]).__name__}"
    elif body := re.search(r'\{"error":.*"message": ?"((?:[^"\\]|\\.)*)"', said, re.DOTALL):
        said = body[1].replace('\\"', '"')
    return mask(_WRAPPING.sub("", " ".join(said.split())), secrets)[:300]


def _reason(causes: Iterable[BaseException]) -> str:
    """The operating system's word for it, such as `connection refused`."""
    numbers = [cause.errno for cause in causes if isinstance(cause, OSError)]
    reasons = [os.strerror(number).lower() for number in numbers if number is not None and number > 0]
    return reasons[-1] if reasons else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and everything it wraps."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
