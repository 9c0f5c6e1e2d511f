#!/bin/sh
# dracut sources this, in a shell of its own, to ask whether what it waits for is there. Installed by mdclone-gen. The root
# device may be the array itself, and there at once: not before mdclone-settled.sh, which removes this. That is not run while
# udev has anything to do, which a flapping device may keep up for ever: after five minutes it is done from here.

read -r up _ </proc/uptime
since=/run/mdclone/queue-since
mkdir -p "${since%/*}"
[ -e "$since" ] || echo "${up%%.*}" >"$since"
read -r begin <"$since"
[ $((${up%%.*} - begin)) -ge 300 ] || return 1
[ ! -x /usr/sbin/mdclone-early ] || /usr/sbin/mdclone-early boot settled || :
return 0
