"""Smoke test: texts to tokens by a tokenizer.json that is written here, and back."""

from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers

from datarax_core import Pipeline, from_sequence
from datarax_core.registry import default_stages

tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))  # noqa: S106 - a token of text
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.save("tokenizer.json")
source = from_sequence([{"text": "two one two"}, {"text": "one"}])
stages = default_stages()
tokenize = stages.get("tokenize")(field="text", to="tokens", tokenizer="tokenizer.json")
detokenize = stages.get("detokenize")(field="tokens", tokenizer="tokenizer.json")
pipeline = Pipeline(source=source, stages=[tokenize, detokenize], batch_size=2, rngs=nnx.Rngs(0))
assert next(iter(pipeline))["tokens"].tolist() == ["two one two", "one"]
