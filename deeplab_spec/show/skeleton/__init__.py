"""Writes a network as a plain PyTorch module, to start a port from.

``parts`` reads the modules off the paths of the graph, ``forward`` writes how a module calls its own, ``layers`` and
``templates`` write how they are built: parts of one form become a class or a function whose parameters are the
numbers in which they differ. ``source`` puts the file together.
"""
