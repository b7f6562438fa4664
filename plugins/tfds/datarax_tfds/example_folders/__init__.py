"""Folders of examples that TFDS reads without preparing them: images in a folder a label, and lines of translated text.

The examples become records as prepared files hold them, ``tf.train.Example``, so that whatever reads and decodes records reads
them too. Neither TensorFlow nor the builders of TFDS, which list folders by TensorFlow, are needed. Imports `splits`.
"""

from .folder import ExampleFolder, ExampleRecords
from .kinds import FolderOptions, folder_kind, open_folder, options_of_builder, reads_a_folder

__all__ = [
    "ExampleFolder",
    "ExampleRecords",
    "FolderOptions",
    "folder_kind",
    "open_folder",
    "options_of_builder",
    "reads_a_folder",
]
