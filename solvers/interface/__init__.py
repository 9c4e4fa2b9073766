"""What a solver is given and what it must offer: requests, engines, checks, and the float64 verdict."""
