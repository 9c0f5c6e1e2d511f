package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseParams(t *testing.T) {
	got := parseParams("usb_storage quirks=1234:5678:u\n",
		"BOOT_IMAGE=/x console=ttyS0 nvme_core.default_ps_max_latency_us=0 usb-storage.delay_use=3 libata.force=noncq "+
			`x.text="a b.c=d" uas.flag mdclone.wait=5 hid.x=1`+"\n")
	want := map[string]string{
		"hid": "ignore_special_drivers=1 x=1", "usb_storage": "quirks=1234:5678:u delay_use=3", "nvme_core": "default_ps_max_latency_us=0",
		"libata": "force=noncq", "x": `text="a b.c=d"`, "uas": "flag", "mdclone": "wait=5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parseParams() (-want +got):\n%s", diff)
	}
}

// TestLoader: each module once, with its parameters, and after those that it needs, whose failure is not its own.
func TestLoader(t *testing.T) {
	var loaded []string
	l := loader{
		needs: parseNeeds("kernel/usb/storage/uas.ko.xz: kernel/usb/storage/usb-storage.ko.xz kernel/usb/core/usbcore.ko.xz\n" +
			"kernel/usb/storage/usb-storage.ko.xz: kernel/usb/core/usbcore.ko.xz\nkernel/usb/core/usbcore.ko.xz:\n"),
		params: map[string]string{"usbcore": "quirks=x"}, seen: map[string]bool{},
		probe: func(name, params string) error {
			loaded = append(loaded, name+" "+params)
			if name == "usb_storage" {
				return errors.New("no such device")
			}
			return nil
		},
	}
	if err := errors.Join(l.load("uas"), l.load("usbcore")); err != nil {
		t.Errorf("load() = %v", err)
	}
	if want := []string{"usbcore quirks=x", "usb_storage ", "uas "}; !slices.Equal(loaded, want) {
		t.Errorf("loaded %q; want %q", loaded, want)
	}
}
