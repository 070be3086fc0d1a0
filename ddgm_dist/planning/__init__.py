"""Configuration, problem, tiles and plan, with projected memory and run time."""
