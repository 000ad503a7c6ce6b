"""The pages that are written from result files and from sources."""
