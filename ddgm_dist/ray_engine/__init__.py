"""The engine on Ray: cluster, workers, and the loop that hands out calls."""
