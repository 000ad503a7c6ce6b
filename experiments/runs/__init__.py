"""What commands do in a workdir: set up, train, evaluate, write the end."""
