"""``python -m aiop`` is the command line."""

from aiop.cli.main import main

if __name__ == "__main__":
    main()
