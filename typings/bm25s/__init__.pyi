"""What this package uses of bm25s, which ships no types."""

from collections.abc import Sequence

from numpy import float32
from numpy.typing import NDArray

class BM25:
    def __init__(self, *, backend: str) -> None: ...
    def index(self, corpus: Sequence[Sequence[str]], *, show_progress: bool) -> None: ...
    def get_scores(self, query_tokens_single: Sequence[str]) -> NDArray[float32]: ...
