package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// opened calls do with each of the named files, or with the input if there is none.
func opened(s streams, names []string, do func(name string, r io.Reader) error) error {
	if len(names) == 0 {
		return do("", s.in)
	}
	var errs []error
	for _, name := range names {
		f, err := os.Open(name)
		if err == nil {
			err = do(name, f)
			f.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lines calls do with each line, until it is false.
func lines(r io.Reader, do func(line string) bool) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" && !do(strings.TrimSuffix(line, "\n")) {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grep [-i] [-v] PATTERN [FILE...]: the lines that match, by Go's regular expressions.
func grep(s streams, args []string) error {
	prefix, invert := "", false
	for ; len(args) > 0 && (args[0] == "-i" || args[0] == "-v"); args = args[1:] {
		if invert = invert || args[0] == "-v"; args[0] == "-i" {
			prefix = "(?i)"
		}
	}
	if len(args) == 0 {
		return usage("grep [-i] [-v] PATTERN [FILE...]")
	}
	re, err := regexp.Compile(prefix + args[0])
	if err != nil {
		return err
	}
	found := false
	err = opened(s, args[1:], func(name string, r io.Reader) error {
		if len(args) > 2 {
			name += ":"
		} else {
			name = ""
		}
		return lines(r, func(line string) bool {
			if re.MatchString(line) != invert {
				found = true
				fmt.Fprintf(s.out, "%s%s\n", name, line)
			}
			return true
		})
	})
	if err == nil && !found {
		return exitStatus(1)
	}
	return err
}

// count reads -n N.
func count(args []string, name string) (n int, rest []string, err error) {
	n = 10
	if len(args) > 1 && args[0] == "-n" {
		if n, err = strconv.Atoi(args[1]); err != nil || n < 0 {
			return 0, nil, usage(name + " [-n LINES] [FILE...]")
		}
		args = args[2:]
	}
	return n, args, nil
}

func head(s streams, args []string) error {
	n, args, err := count(args, "head")
	if err != nil {
		return err
	}
	return opened(s, args, func(_ string, r io.Reader) error {
		left := n
		return lines(r, func(line string) bool {
			if left--; left >= 0 {
				fmt.Fprintln(s.out, line)
			}
			return left > 0
		})
	})
}

func tail(s streams, args []string) error {
	n, args, err := count(args, "tail")
	if err != nil {
		return err
	}
	return opened(s, args, func(_ string, r io.Reader) error {
		var last []string
		err := lines(r, func(line string) bool {
			if last = append(last, line); len(last) > n {
				last = last[1:]
			}
			return true
		})
		for _, line := range last {
			fmt.Fprintln(s.out, line)
		}
		return err
	})
}

// hexdump [-s SKIP] [-n LENGTH] [FILE]: as hexdump -C of others.
func hexdump(s streams, args []string) error {
	how := "hexdump [-s SKIP] [-n LENGTH] [FILE]"
	var skip, length int64 = 0, -1
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		n, err := size(args[1])
		switch {
		case err != nil:
			return err
		case args[0] == "-s":
			skip = n
		case args[0] == "-n":
			length = n
		default:
			return usage(how)
		}
		args = args[2:]
	}
	if len(args) > 1 {
		return usage(how)
	}
	return opened(s, args, func(_ string, r io.Reader) error {
		if seeker, ok := r.(io.Seeker); ok && skip > 0 {
			if _, err := seeker.Seek(skip, io.SeekStart); err != nil {
				return err
			}
		}
		if length >= 0 {
			r = io.LimitReader(r, length)
		}
		return dump(s.out, r, skip)
	})
}

// dump writes 16 bytes a line, the first with the number at.
func dump(w io.Writer, r io.Reader, at int64) error {
	in := bufio.NewReader(r)
	var b [16]byte
	for ; ; at += int64(len(b)) {
		n, err := io.ReadFull(in, b[:])
		if n > 0 {
			line := hex.Dump(b[:n])
			fmt.Fprintf(w, "%08x%s", at, line[8:])
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// size reads a number of bytes: 512, 64K, 1M, 2G.
func size(text string) (int64, error) {
	number, factor := text, int64(1)
	for i, suffix := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(text), suffix); ok {
			number, factor = rest, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 0, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return n * factor, nil
}

// dd if= of= bs= count= skip= seek=: copies blocks. What it writes to is not cut off, and is on the disk when it ends.
func dd(s streams, args []string) error {
	names := map[string]string{}
	numbers := map[string]int64{"bs": 512, "count": -1, "skip": 0, "seek": 0}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		if key == "if" || key == "of" {
			names[key] = value
			continue
		}
		if _, ok := numbers[key]; !ok {
			return usage("dd [if=FILE] [of=FILE] [bs=SIZE] [count=N] [skip=N] [seek=N]")
		}
		n, err := size(value)
		if err != nil {
			return err
		}
		numbers[key] = n
	}
	bs := numbers["bs"]
	if bs < 1 || bs > 1<<30 {
		return errors.New("bs is to be from 1 to 1G")
	}
	in, out := s.in, s.out
	if names["if"] != "" {
		f, err := os.Open(names["if"])
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Seek(numbers["skip"]*bs, io.SeekStart); err != nil {
			return err
		}
		in = f
	}
	var file *os.File
	if names["of"] != "" {
		var err error
		if file, err = os.OpenFile(names["of"], os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
			return err
		}
		defer file.Close()
		if _, err := file.Seek(numbers["seek"]*bs, io.SeekStart); err != nil {
			return err
		}
		out = file
	}
	if numbers["count"] >= 0 {
		in = io.LimitReader(in, numbers["count"]*bs)
	}
	n, err := copyBlocks(out, in, bs)
	if file != nil && err == nil {
		err = file.Sync()
	}
	fmt.Fprintf(s.err, "%d bytes copied\n", n)
	return err
}

func copyBlocks(w io.Writer, r io.Reader, bs int64) (int64, error) {
	buf := make([]byte, bs)
	var all int64
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			written, e := w.Write(buf[:n])
			all += int64(written)
			if e != nil {
				return all, e
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// lsblk lists the disks and what is on them, as the kernel sees it.
func lsblk(s streams, _ []string) error {
	text, err := os.ReadFile("/proc/partitions")
	if err != nil {
		return err
	}
	for _, line := range bytes.Split(text, []byte("\n")) {
		fields := strings.Fields(string(line))
		if len(fields) != 4 || fields[0] == "major" {
			continue
		}
		kib, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			continue
		}
		model, _ := os.ReadFile("/sys/class/block/" + strings.ReplaceAll(fields[3], "/", "!") + "/device/model")
		fmt.Fprintf(s.out, "/dev/%-12s %12d MiB  %s\n", fields[3], kib>>10, strings.TrimSpace(string(model)))
	}
	return nil
}
