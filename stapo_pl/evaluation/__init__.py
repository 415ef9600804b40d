"""Measures a policy on benchmarks: samples, keeps every completion, grades, reports."""
