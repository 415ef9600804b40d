"""Reading and comparing answers."""
