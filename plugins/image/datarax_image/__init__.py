"""Image stages of datarax: decoding, sizes, crops and flips on the host, colors and mixtures of pictures on the device.

`decode` is the stage that decodes, `sizes` and `flips` place pictures with their masks and boxes, `color` and `mixing` run
compiled.
"""

from .color import ColorJitter, Normalize
from .decode import DecodeImage
from .flips import Flip
from .mixing import CutMix, MixUp
from .sizes import CenterCrop, RandomCrop, RandomResizedCrop, Resize

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "CutMix",
    "DecodeImage",
    "Flip",
    "MixUp",
    "Normalize",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
]
