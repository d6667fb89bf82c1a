"""The method, one file a stage: records in, records or a checkpoint out."""
