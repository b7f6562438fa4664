"""Data sets that TFDS serves without preparing them: folders of images or of translated text, and the data of its own mocks.

Examples of folders become records as prepared files hold them, ``tf.train.Example``, so that whatever reads and decodes records
reads them too. Neither TensorFlow nor the builders of TFDS, which list folders by TensorFlow, are needed. Imports `splits`.
"""

from .data import ExampleRecords, UnpreparedData
from .kinds import FolderOptions, folder_kind, open_folder, options_of_builder, reads_a_folder
from .mocks import MockedData, is_mocked

__all__ = [
    "ExampleRecords",
    "FolderOptions",
    "MockedData",
    "UnpreparedData",
    "folder_kind",
    "is_mocked",
    "open_folder",
    "options_of_builder",
    "reads_a_folder",
]
