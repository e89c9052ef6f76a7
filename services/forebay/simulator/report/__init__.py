"""What is shown of an experiment: tables for terminals and documents, plots, and one self-contained page."""
