"""`python -m syncengine`: the same as the command `syncengine`."""

from syncengine.cli import main

if __name__ == "__main__":
    main()
