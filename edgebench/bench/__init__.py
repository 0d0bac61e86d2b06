"""A plan carried out on a device: engines started, rounds measured, records made."""
