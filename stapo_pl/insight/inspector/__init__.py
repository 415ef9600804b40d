"""The inspector makes one HTML file of a run, in which each recorded token can be looked at.

`reading.py` joins what the ranks recorded. `pieces.py` turns tokens into text. `choice.py` decides
which completions the page shows if there are too many. `rare.py`, `whole.py`, `figures.py` and
`frequent.py` make its parts, and `data.py` puts them together. `page.py` writes the file from the
templates in `page/`.
"""
