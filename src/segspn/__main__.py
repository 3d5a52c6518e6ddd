"""``python -m segspn``."""

from segspn.cli import main

if __name__ == "__main__":
    main()
