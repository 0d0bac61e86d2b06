pytest_plugins = ["lab.here", "lab.proxy", "lab.sshd"]
