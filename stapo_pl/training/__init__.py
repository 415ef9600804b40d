"""The Lightning side of a run."""
