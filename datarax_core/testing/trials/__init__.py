"""Quick runs of the kits on installed plugins, for ``drx check --run``, in a process of their own."""
