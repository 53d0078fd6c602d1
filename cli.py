"""The command line from a checkout: `python cli.py track ...`, or `tracknet` once installed."""

from tracknet.commands.main import main

if __name__ == "__main__":
    main()
