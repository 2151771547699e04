"""`python -m deeplab_native`: the command line, where `deeplab-native` is not on PATH."""

from .cli.main import main

if __name__ == "__main__":  # worker processes import this file, too
    main()
