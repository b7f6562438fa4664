"""The ``drx`` command: one module for each command in `commands`, and modules that commands share.

`app` finds a command by the name of its module, and imports that module alone. A module imports JAX only while its command
runs. So a command costs only the modules it uses: listing plugins loads neither JAX nor a plugin.
"""
