"""SmolLM2 as the engine runs it."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import DecoderSpec


@dataclass(frozen=True)
class RealModel:
    folder: Path
    spec: DecoderSpec
    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def open(self, *, slots: int, max_len: int = 512, threads: int = 2) -> OnnxDecoder:
        return OnnxDecoder(self.folder, self.spec, slots=slots, max_len=max_len, threads=threads)
