"""What is solved (problem), and how it is cut up (plan). Integers only: no torch, no I/O."""
