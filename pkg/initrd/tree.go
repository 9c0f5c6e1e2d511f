package initrd

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxLinks is how many symbolic links one path may lead through (MAXSYMLINKS, include/linux/namei.h, Linux 6.12).
const maxLinks = 40

// inode is what the hard links to one file share.
type inode struct {
	Entry
	wanted bool // one of its names was chosen by keep
}

// node is one name in the tree; children is nil for all but folders.
type node struct {
	*inode
	name     string
	parent   *node
	children map[string]*node
}

func ofMode(mode fs.FileMode) *inode { return &inode{Entry: Entry{Mode: mode}} }

// newRoot is the kernel's root before anything is unpacked (usr/default_cpio_list, Linux 6.12).
func newRoot() *node {
	root := &node{inode: ofMode(fs.ModeDir | 0o755), children: map[string]*node{}}
	root.parent = root
	root.put("root", ofMode(fs.ModeDir|0o700))
	root.put("dev", ofMode(fs.ModeDir|0o755)).put("console", ofMode(fs.ModeDevice|fs.ModeCharDevice|0o600))
	return root
}

func (n *node) entry() Entry { return n.Entry }

func (n *node) names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// walk calls f for everything below n, folders before what is in them.
func (n *node) walk(prefix string, f func(path string, n *node)) {
	for _, name := range n.names() {
		child := n.children[name]
		f(prefix+name, child)
		if child.children != nil {
			child.walk(prefix+name+"/", f)
		}
	}
}

// lookup resolves a path from n, the root, through symbolic links; nil if it leads nowhere.
func (n *node) lookup(name string) *node {
	links := 0
	return n.resolve(n, name, &links)
}

func (n *node) resolve(from *node, name string, links *int) *node {
	at := from
	if strings.HasPrefix(name, "/") {
		at = n
	}
	for _, part := range strings.Split(name, "/") {
		if at.children == nil {
			return nil
		}
		switch part {
		case "", ".":
			continue
		case "..":
			at = at.parent
			continue
		}
		next := at.children[part]
		if next == nil {
			return nil
		}
		if next.Mode&fs.ModeSymlink != 0 {
			if *links++; *links > maxLinks {
				return nil
			}
			if next = n.resolve(at, next.Target, links); next == nil {
				return nil
			}
		}
		at = next
	}
	return at
}

// place finds the folder that name is to be made in, and its name there. No folder: nil, and the kernel drops the file.
func (n *node) place(name string) (folder *node, base string) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return n.parent, ""
	}
	dir, base := path.Split(clean)
	if folder = n.lookup(dir); folder == nil || folder.children == nil {
		return nil, ""
	}
	return folder, base
}

// put makes name in folder as do_name and clean_path in the kernel do: something of another type is removed first, unless
// it is a folder that is not empty, and then the new one is dropped. A folder that is there stays with what is in it.
func (n *node) put(base string, i *inode) *node {
	old := n.children[base]
	if old != nil {
		sameType := old.Mode.Type() == i.Mode.Type()
		if old.children != nil && sameType {
			old.inode = i
			return old
		}
		if len(old.children) > 0 {
			return nil
		}
	}
	made := &node{inode: i, name: base, parent: n}
	if i.Mode.IsDir() {
		made.children = map[string]*node{}
	}
	n.children[base] = made
	return made
}

// path is n's own, without a leading slash.
func (n *node) path() string {
	if n.parent == n {
		return ""
	}
	if n.parent.parent == n.parent {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}
