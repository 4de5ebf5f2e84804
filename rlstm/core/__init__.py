"""What every other folder may use: errors, seeds, trees of arrays, where memory and credit end, files, the process."""
