"""Breeding: new points of a sweep, mutated and crossed from the favourites of an earlier one.

    favourites ── genes ──> candidates ── checks, drafts ──> children ──> axis of points, lineage

1. `favourites.py` reads a file of favourites and makes points of them; every problem of the file is refused here.
2. `genes.py` and `term_genes.py` know how a value of each kind changes, and how two cross. `ranges.py` says how far.
3. `offspring.py` draws children. Each has random numbers of its own (`draws.py`), so that more children do not change the
   first ones. A child that cannot be rendered, or is there already, is drawn again.
4. `generation.py` chooses the sweep's directory and makes the axis; `lineage_record.py` keeps the points in `sweep.json`,
   from which a broken-off sweep goes on.
"""
