"""What several tests share: makers of small things, runs, and samplers that record."""
