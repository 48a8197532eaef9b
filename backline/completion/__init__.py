"""Shell completion of `fab`: what a shell runs on TAB, and what that knows."""
