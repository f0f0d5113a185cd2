"""``python -m deeplab_spec``."""

from deeplab_spec.cli.app import main

if __name__ == "__main__":
    main()
