"""Coverage-guided fuzzing of everything that reads a file: targets, seeds, mutators, corpus."""
