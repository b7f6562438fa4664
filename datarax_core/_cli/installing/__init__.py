"""Installation of plugins by the installer of this environment: what is meant by a name, the command, and what it changed."""
