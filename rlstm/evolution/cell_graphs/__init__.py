"""Evolving the structure of memory cells: mutations of graphs, their canonical form, and the search over them."""
