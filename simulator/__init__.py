"""Hero's Path on this machine: its old stores, its server and its network, for demos and simulations."""
