"""``python -m deeplab_spec``."""

import sys

if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))  # the current folder comes last: no file in it stands in for a module

from deeplab_spec.cli.app import main

if __name__ == "__main__":
    main()
