#!/bin/bash
# dracut module: puts mdclone into the boot image. Installed by mdclone-gen.
#
# Whatever is missing here is a warning, as a machine without a new boot image is worse than one without mdclone.
# "mdclone-gen verify" tells whether an image is complete.

# called by dracut
check() {
	compgen -G "${dracutsysrootdir-}/etc/mdclone/*.conf" >/dev/null || return 255
}

# called by dracut
depends() {
	echo mdraid
}

# called by dracut
installkernel() {
	hostonly='' instmods md-mod raid1 || dwarn "mdclone: cannot add the modules md-mod and raid1"
	# the clone's driver is not loaded while the drive is unplugged
	hostonly='' instmods @disk-modules@ || dwarn "mdclone: cannot add the drivers of disks"
}

# called by dracut
install() {
	local file program=/usr/sbin/mdclone-early

	for file in "${dracutsysrootdir-}"/etc/mdclone/*.conf \
		/usr/lib/udev/rules.d/63-mdclone.rules /usr/lib/udev/rules.d/65-mdclone.rules $program; do
		file=${file#"${dracutsysrootdir-}"}
		inst_simple "$file" || dwarn "mdclone: cannot add $file (run mdclone-gen install)"
	done
	inst_multiple udevadm rm

	# what asks for the program to be run is of no use without it
	[[ -x ${initdir:?}$program ]] || return 0
	# tells mdclone-early that it runs in the initramfs
	: >"$initdir/etc/mdclone/initramfs"

	inst_hook initqueue/settled 10 "${moddir:?}/mdclone-settled.sh" # before what starts volumes
	inst_hook initqueue/finished 10 "$moddir/mdclone-finished.sh"
	inst_hook pre-pivot 90 "$moddir/mdclone-pre-pivot.sh"
	inst_simple "$moddir/no-resume.conf" /usr/lib/systemd/system/systemd-hibernate-resume.service.d/mdclone.conf
	dracut_need_initqueue
}
