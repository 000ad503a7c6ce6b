"""What commands write: records, logs, reports, progress."""
