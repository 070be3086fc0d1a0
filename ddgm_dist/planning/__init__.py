"""What is solved and how it is cut: configuration, problem, tiles, memory."""
