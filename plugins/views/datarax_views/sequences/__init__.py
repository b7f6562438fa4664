"""Views of records of varying length: windows over them, rows packed of them, and batches of one length class."""
