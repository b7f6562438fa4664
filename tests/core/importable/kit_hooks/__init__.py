"""Hook plugins for the tests of the kit of hook plugins: those that keep every promise, and those that break one."""
