"""What starts and ends real programs on this machine, for the packages beside this one. Standard library only."""
