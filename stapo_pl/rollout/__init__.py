"""From prompts to a rollout."""
