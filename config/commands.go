package config

import (
	"errors"
	"strings"

	"gopkg.in/yaml.v3"

	"agiproxy/agi"
)

// commands decodes a list of AGI commands, which run one after the other. They
// are needed in the worst of moments, so what Asterisk would not run is found
// now.
func (d *decoder) commands(key string, n *yaml.Node) (lines []string) {
	hungUp := false // by the command before
	d.each(100, func(key string, n *yaml.Node) {
		line, ok := d.scalar(key, n, "an AGI command such as EXEC Playback sorry")
		if !ok {
			return
		}
		if err := agi.CheckCommand(line); err != nil {
			advice := ""
			if errors.Is(err, agi.ErrUnknownCommand) {
				advice = commandHint(line)
			}
			d.fault(n, "%s: %s: %v%s", key, quote(line), err, advice)
			return
		}
		if hungUp {
			d.fault(n, "%s: %s: nothing runs after HANGUP", key, quote(line))
		}
		hungUp = strings.EqualFold(strings.TrimSpace(line), "HANGUP") // with an argument it is another channel
		lines = append(lines, line)
	})(key, n)
	return lines
}

// commandHint says what was probably meant by a line that begins with no
// command.
func commandHint(line string) string {
	words := strings.Fields(strings.ToUpper(line))
	for n := min(3, len(words)); n > 0; n-- { // no command has more
		var names []string
		for c := agi.Other + 1; c < agi.Command(agi.NumCommands); c++ {
			if strings.Count(c.String(), " ") == n-1 {
				names = append(names, c.String())
			}
		}
		if guess := hint(strings.Join(words[:n], " "), names); guess != "" {
			return guess
		}
	}
	return "; want one of AGI's own, with the dialplan's applications behind EXEC, such as EXEC Playback sorry"
}
