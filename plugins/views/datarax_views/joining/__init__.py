"""Views that join sources, one after another or side by side, and the view that repeats one."""
