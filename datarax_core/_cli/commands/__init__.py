"""Commands, one module each: the function of the module's name; its signature gives the arguments, its docstring the help."""
