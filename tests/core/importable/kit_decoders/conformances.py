"""The test classes of all decoders of the kit's own tests, which run pytest on this module."""

from . import broken, healthy

CONFORMANCES = {
    healthy.Packed: healthy.Conformance,
    healthy.Lines: healthy.LinesConformance,
    healthy.Tokens: healthy.TokensConformance,
    healthy.Struct: healthy.StructConformance,
    healthy.Json: healthy.JsonConformance,
    healthy.Pairs: healthy.PairsConformance,
    healthy.Plain: healthy.PlainConformance,
    healthy.FunctionDecoder: healthy.FunctionConformance,
    **broken.CONFORMANCES,
}

for decoder, conformance in CONFORMANCES.items():
    name = f"Test{decoder.__name__}"
    globals()[name] = type(name, (conformance,), {"decoder_class": decoder, "__module__": __name__})
del conformance
