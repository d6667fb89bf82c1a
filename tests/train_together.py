"""Does the tasks in several folders one after another, for test_launch.py: started once in each process."""

import sys
from pathlib import Path

from solon import launch

for folder in sys.argv[1:]:
    launch.main(Path(folder))
