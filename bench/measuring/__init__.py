"""What the benches are made of, a package for each engine; the commands stand in the folder above."""
