"""The cache of objects on a disk of this machine: blocks, whole files, and the space that they take."""
