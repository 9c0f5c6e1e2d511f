#!/bin/sh
# dracut sources this to ask whether what it waits for is there. Installed by mdclone-gen. The root device may be the array
# itself, and there at once: not before mdclone-settled.sh, which removes this.

return 1
