"""The test lab: real servers and shells on this machine that stand for devices."""
