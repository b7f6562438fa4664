"""The test classes of all hook plugins of the kit's own tests, which run pytest on this module."""

from . import broken, healthy

RIGHT = [
    healthy.NoNansConformance,
    healthy.RatesConformance,
    healthy.TracesConformance,
    healthy.NamesConformance,
    healthy.CatalogueConformance,
    healthy.FewOnlyConformance,
    healthy.DoublesConformance,
    healthy.LastConformance,
    healthy.TimedConformance,
    healthy.WritesConformance,
    healthy.StrictConformance,
]

for right in RIGHT:
    name = f"Test{right.__name__.removesuffix('Conformance')}"
    globals()[name] = type(name, (right,), {"__module__": __name__})

for plugin, conformance in broken.CONFORMANCES.items():
    name = f"Test{plugin.__name__}"
    globals()[name] = type(name, (conformance,), {"__module__": __name__, "plugin_class": plugin})
del conformance, right
