"""What a run hands to a person or a program: tables, files, plots, traces, explanations."""
