"""Tools for ML engineers: bring a model in, optimise, train, evaluate, explain."""
