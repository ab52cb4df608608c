"""The pure half of the bridge: three wire protocols, one vocabulary between them. Handed everything, it does no I/O."""
