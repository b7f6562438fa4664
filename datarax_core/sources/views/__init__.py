"""Views: sources over sources. Their base class, tables that one pass makes, and conditions on fields."""
