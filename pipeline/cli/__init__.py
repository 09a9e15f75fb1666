"""The commands of weir, one file each."""
