"""The run folder on disk: record files, the manifest, the lock, and who reads them all."""
