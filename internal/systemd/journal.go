package systemd

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Levels of syslog, as sd-daemon(3) writes them before a line.
const (
	Error   = "<3>"
	Warning = "<4>"
	Info    = "<6>"
	Debug   = "<7>"
)

// IsJournal reports whether what is written to w goes to the journal. The
// environment alone doesn't tell: somebody may have redirected the output since.
//
// Source: systemd.exec(5), $JOURNAL_STREAM.
func IsJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	stream := os.Getenv("JOURNAL_STREAM")
	if !ok || stream == "" {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	return fmt.Sprintf("%d:%d", uint64(st.Dev), uint64(st.Ino)) == stream
}

// ForJournal returns a writer for a logger whose every line gets its level's
// mark, so that "journalctl -p warning" finds what it should. Each record is one
// write to out.
func ForJournal(out io.Writer) *hclog.LeveledWriter {
	return hclog.NewLeveledWriter(&marked{out, Info}, map[hclog.Level]io.Writer{
		hclog.Trace: &marked{out, Debug},
		hclog.Debug: &marked{out, Debug},
		hclog.Warn:  &marked{out, Warning},
		hclog.Error: &marked{out, Error},
	})
}

// marked writes a mark before each line: the journal takes every line for a
// record of its own.
type marked struct {
	out  io.Writer
	mark string
}

func (m *marked) Write(record []byte) (int, error) {
	var b bytes.Buffer
	for line := range bytes.Lines(record) {
		b.WriteString(m.mark)
		b.Write(line)
	}
	if _, err := m.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(record), nil
}
