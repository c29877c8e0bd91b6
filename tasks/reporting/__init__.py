"""Pages and charts: the report of a run and the page of a simulation, each one HTML file without scripts.

`charts.py` draws SVG, `report_page.py` and `simulation_page.py` fill the templates beside them.
"""
