"""Run the command line by ``python -m spquant_search.cli``."""

from spquant_search.cli.app import main

if __name__ == "__main__":  # a trainer process imports this module, too
    main()
