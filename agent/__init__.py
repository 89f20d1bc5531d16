"""outlive: carries off an EC2 instance everything that must outlive it, and proves that it arrived.

Start reading at `agent.daemon`.
"""

__version__ = "0.1.0"
