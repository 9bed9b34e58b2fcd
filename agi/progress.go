package agi

import "fmt"

// Progress is where a dialogue is, in a form that another version of this
// package can go on from: commands are named, since their numbers change.
type Progress struct {
	Pending  []string // commands that wait for their replies, the oldest first, as far as they are remembered
	InFlight uint32   // how many wait
	Reply    uint8    // what the line under way belongs to: 0 nothing, 1 a usage, 2 a value
	Prefix   []byte   // how Asterisk's line under way begins
	Last     byte     // how it ends so far
	HungUp   bool
	Asked    bool // the script itself asked for the end
	Refused  bool // the last reply was result=-1
	InMid    bool // the caller left while a command ran
	Commands uint32
}

// Progress returns where the dialogue is.
func (d *Dialogue) Progress() Progress {
	p := Progress{
		InFlight: d.n, Reply: uint8(d.reply), Prefix: append([]byte(nil), d.prefix[:d.prefixN]...), Last: d.last,
		HungUp: d.hungUp, Asked: d.asked, Refused: d.refused, InMid: d.inMid, Commands: d.commands,
	}
	for _, c := range d.pending[:min(d.n, maxPending)] {
		p.Pending = append(p.Pending, c.String())
	}
	return p
}

// Dialogue returns the dialogue that is there. An error says that no dialogue
// can be.
func (p *Progress) Dialogue() (Dialogue, error) {
	d := Dialogue{
		n: p.InFlight, reply: replyState(p.Reply), prefixN: uint8(len(p.Prefix)), last: p.Last,
		hungUp: p.HungUp, asked: p.Asked, refused: p.Refused, inMid: p.InMid, commands: p.Commands,
	}
	if d.reply > inText || len(p.Prefix) > len(d.prefix) || len(p.Pending) != int(min(d.n, maxPending)) {
		return Dialogue{}, fmt.Errorf("no dialogue can be at %+v", *p)
	}
	copy(d.prefix[:], p.Prefix)
	for i, name := range p.Pending {
		d.pending[i] = CommandNamed(name)
	}
	return d, nil
}

// CommandNamed returns the command of that name, see [Command.String]; [Other]
// if there is none.
func CommandNamed(name string) Command {
	for c, n := range commandNames {
		if n == name {
			return Command(c)
		}
	}
	return Other
}
