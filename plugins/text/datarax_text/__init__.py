"""The text stages of datarax: `tokenize` and `detokenize`, which run on the host.

`files` finds and opens the file of a tokenizer, `hugging_face` and `sentence_piece` are the two libraries.
"""

from .detokenize import Detokenize
from .tokenize import Tokenize

__all__ = ["Detokenize", "Tokenize"]
