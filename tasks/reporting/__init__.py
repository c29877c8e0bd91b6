"""Pages and charts: the report and the page of a simulation, each a single HTML file without scripts.

`charts.py` draws SVG, `report_page.py` and `simulation_page.py` fill the templates beside them.
"""
