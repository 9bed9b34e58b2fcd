package agi

import "testing"

// FuzzProgress cuts a dialogue anywhere: what goes on from its progress goes on
// as it does itself.
func FuzzProgress(f *testing.F) {
	f.Add([]byte("NOOP\nSTREAM FILE x\n"), []byte("200 result=0\n520-Invalid\nusage\n520 End\nHANGUP\n"), 3, 9)
	f.Add([]byte("GET VARIABLE x\n"), []byte("200 result=1 (a\nHANGUP\nb)\nHANGUP\n"), 1, 16)
	f.Add([]byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nHANGUP\nfailure\n"), []byte("200 result=-1\n"), 5, 2)
	f.Fuzz(func(t *testing.T, commands, replies []byte, a, b int) {
		cut := func(p []byte, at int) int { return int(uint(at) % uint(len(p)+1)) }
		a, b = cut(commands, a), cut(replies, b)
		var whole Dialogue
		say := func(d *Dialogue, p []byte) {
			var l Lines
			l.Feed(p, func(line []byte) bool { d.Command(line); return true })
		}
		say(&whole, commands[:a])
		whole.Replies(replies[:b])
		p := whole.Progress()
		other, err := p.Dialogue()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []*Dialogue{&whole, &other} {
			say(d, commands[a:])
			d.Replies(replies[b:])
		}
		if visible(other) != visible(whole) {
			t.Errorf("went on to\n%+v; want\n%+v", other, whole)
		}
	})
}

// visible is a dialogue without what can't be seen of it any more: commands that
// are answered, and the bytes of lines that are over.
func visible(d Dialogue) Dialogue {
	clear(d.pending[min(d.n, maxPending):])
	clear(d.prefix[d.prefixN:])
	return d
}

func TestProgressIsChecked(t *testing.T) {
	for _, p := range []Progress{{Reply: 3}, {Prefix: make([]byte, 17)}, {InFlight: 1}, {Pending: []string{"NOOP"}}} {
		if d, err := p.Dialogue(); err == nil {
			t.Errorf("%+v gives %+v; want an error", p, d)
		}
	}
}

func TestCommandNamed(t *testing.T) {
	for c := range Command(NumCommands) {
		if got := CommandNamed(c.String()); got != c {
			t.Errorf("CommandNamed(%q) = %v", c, got)
		}
	}
	if got := CommandNamed("FUTURE"); got != Other {
		t.Errorf("CommandNamed(FUTURE) = %v; want other", got)
	}
}
