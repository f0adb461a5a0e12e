"""JSON schemas, read as package data."""
