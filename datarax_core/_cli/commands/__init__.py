"""One module a command. The function of the same name is the command, its signature the arguments, its docstring the help."""
