"""What trainings share: their settings for the libraries, metrics, checkpoints, and how rows are packed."""
