"""Code of plugins, run in processes of its own, which end whatever the plugin does."""
