"""The commands. Each imports the heavy parts inside its functions: ``ekiden --help`` stays quick."""
