"""Filling a gap in a text: what stands before and after it, between control tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BAR = "\uff5c"
"""As wide as a Chinese character; DeepSeek's."""

SPELLINGS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    (f"<{BAR}fim▁begin{BAR}>", f"<{BAR}fim▁hole{BAR}>", f"<{BAR}fim▁end{BAR}>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
)
"""What models call the tokens before the prefix, the suffix and the gap, in this order: Qwen, CodeGemma and SmolLM3;
StarCoder; Granite and SantaCoder; DeepSeek; GLM; CodeLlama."""

MISTRAL = ("[SUFFIX]", "[PREFIX]")
"""Codestral's: the suffix comes first, and the gap follows the prefix at once."""

ENDS = (
    *("<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|file_sep|>", "<file_sep>", "<|file_separator|>", "<|repo_name|>"),
    *("<repo_name>", "<EOT>", "▁<EOT>", "<|endoftext|>", f"<{BAR}end▁of▁sentence{BAR}>"),
)
"""What models write where the gap is full, besides the token that ends every answer."""


@dataclass(frozen=True)
class Infill:
    """The control tokens by which one model fills gaps."""

    prefix: int
    suffix: int
    middle: int | None
    """None: the suffix comes first, and the gap follows the prefix."""
    ends: list[str]
    """What ends the filling, as text."""

    @classmethod
    def of(cls, wrapper: Any) -> Infill | None:
        """The ones that a tokenizer has."""
        known: dict[str, int] = wrapper.get_vocab()
        ends = [end.replace("▁", " ") if end == "▁<EOT>" else end for end in ENDS if end in known]
        for prefix, suffix, middle in SPELLINGS:
            if prefix in known and suffix in known and middle in known:
                return cls(known[prefix], known[suffix], known[middle], ends)
        suffix, prefix = MISTRAL
        if prefix in known and suffix in known:
            return cls(known[prefix], known[suffix], None, ends)
        return None

    def prompt(self, before: list[int], after: list[int]) -> list[int]:
        """The prompt that asks for what stands between `before` and `after`."""
        if self.middle is None:
            return [self.suffix, *after, self.prefix, *before]
        return [self.prefix, *before, self.suffix, *after, self.middle]
