"""Where rewards run."""
