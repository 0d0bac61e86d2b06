"""An open device: how it is talked to, locked, checked, and what is put there."""
