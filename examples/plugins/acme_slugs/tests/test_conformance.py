"""The conformance tests of datarax host stages."""

from datarax_core.testing import HostStageConformance

TITLES = [f"Äpfel & Birnen, {number}. Teil" for number in range(12)]


class TestAcmeSlugs(HostStageConformance):
    """All conformance tests, over titles of a dict of fields."""

    config = {"type": "acme_slugs", "field": "page.title", "empty": "untitled"}
    records = {"page": {"title": TITLES}, "views": list(range(12))}
    expected = {"slug": [f"apfel-birnen-{number}-teil" for number in range(12)]}
    effective = {"to": "page.slug"}
    shown_elsewhere = {
        "spellings": "test_stage.py::test_a_file_says_how_characters_are_spelled",
        "empty": "test_stage.py::test_a_text_of_which_nothing_is_left_gets_what_empty_says",
    }
