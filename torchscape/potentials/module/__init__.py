"""A PyTorch module, data and a loss as a potential: what ``ModulePotential`` is made of."""
