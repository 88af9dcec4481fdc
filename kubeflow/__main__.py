"""`python -m kubeflow compile ...`: the commands of `tandem kubeflow` in a checkout that is not installed."""

import sys

from kubeflow.commands import add_commands
from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(["kubeflow", *sys.argv[1:]], more_commands=[add_commands]))
