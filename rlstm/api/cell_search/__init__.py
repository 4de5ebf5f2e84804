"""A search for memory cells: what is searched, how well a cell learns, and the folder of what was found.

``rlstm search-cell`` from Python is ``rlstm.api.cell_search.search.search_cell``.
"""
