"""This room is the command line: `stapo fit`, `evaluate`, `export`, `compare` and `inspect`.

Open `command.py` first: it chooses the command by the first word. Each command has a file of its
own: `fit.py`, `evaluate.py`, `export.py`, `compare.py` and `inspect.py`. A command line consists of
words such as `objective=stapo`. `grammar.py` turns words into flags, `files.py` reads the YAML
files that they name, and `words.py` checks every value before the parser sees it. `hints.py`
suggests what a wrong word may have meant, and `screen.py` prints the first screen of help.
`naming.py` makes the name of a run, and `resuming.py` compares a resumed run with the earlier one.
"""
