"""The graph, its settings, its components and the command line."""
