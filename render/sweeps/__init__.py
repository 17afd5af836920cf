"""Grids of jobs: from words to pictures or films.

    words ── axes/ ──> points ── rendering/ ──> run directories ── gallery/ ──> contact sheets, page
                                     │ events
                                     └─ monitor/ ──> board ──> screen, status, page

1. `axes/parsing.py` makes a `SweepDefinition` of a root config and words: axes with their values (`values.py`,
   `file_names.py`, `shorthands.py`, `section_axes.py`). `axes/points.py` makes every combination a `GridPoint`
   with a checked config.
2. `rendering/drafting.py` plans each point and looks for its run directory. What cannot be rendered is refused here. A
   point's job is a picture (`still_point.py`) or a film (`film_point.py`), with one interface (`point_job.py`).
3. `rendering/render_points.py` opens the farm and loads the weights. `launcher.py` has a thread for each worker
   (`worker_loop.py`), which takes points from a queue (`point_queue.py`) that compiles no kernel twice, and sends them to
   the `renderer.py` in the worker's process. Large points get all workers.
4. Every event of a point goes through `sweep_reporter.py` to `events.jsonl` (`monitor/event_log.py`) and the `Board`;
   `monitor/forecast.py` estimates from it what is left. The screen and `status` show both.
5. `breeding/generation.py` makes the points of a sweep from chosen ones: mutated and crossed, recorded in `sweep.json`.
6. `gallery/exhibition_builder.py` collects the points' pictures, from which `sheet.py` draws contact sheets and
   `gallery_page.py` writes the page. `single_sheet.py` draws a sheet of a given width from what lies on the disk.
"""
