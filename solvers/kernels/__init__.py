"""How compiled kernels are declared, cached on disk, and divided among threads."""
