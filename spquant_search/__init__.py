"""How few bits and how few operations does this spiking network need?"""

__version__ = "0.5.0"
