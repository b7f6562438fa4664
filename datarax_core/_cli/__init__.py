"""``drx``: the commands, one module each in `commands`, and what they share.

`app` finds a command by its module and imports no other one; a module imports what its command needs, and JAX only when it
runs. So a command costs what it uses: listing loads neither JAX nor a plugin.
"""
