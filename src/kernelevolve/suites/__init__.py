"""Collections of tasks to measure on: one file per suite."""
